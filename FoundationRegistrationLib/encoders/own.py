"""An encoder object from the caller; its properties are found by running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from .base import Encoder, EncoderInfo

if TYPE_CHECKING:
    import torch

# Pixels of the test slice for a slice encoder, voxels along each axis for a volume encoder.
_PIXELS, _VOXELS = 64, 16


def info_of(encoder: Encoder, device: torch.device) -> EncoderInfo:
    """Return the properties of an encoder.

    Raises:
        InputError: it does not return features.
    """
    import torch

    is_volume = getattr(encoder, "reach", 0) > 0
    shape = (1, _VOXELS, _VOXELS, _VOXELS) if is_volume else (1, _PIXELS, _PIXELS)
    name = type(encoder).__name__
    with torch.inference_mode():
        features = encoder.encode(torch.zeros(shape, device=device))
    if features.ndim != len(shape) + 1 or len(features) != 1 or (is_volume and features.shape[2:] != shape[1:]):
        wanted = "(1, D, Z, H, W)" if is_volume else "(B, D, h, w)"
        msg = (
            f"The encoder {name} returns {tuple(features.shape)} for images of {shape}; its `encode` must return "
            f"{wanted}."
        )
        raise InputError(msg)
    return EncoderInfo(
        name=name,
        kind="volume" if is_volume else "slice",
        channels=features.shape[1],
        tokens=0 if is_volume else max(features.shape[2:]),
        window=getattr(encoder, "window", 0),
        build=lambda settings, device: encoder,
    )
