"""The encoder interface and the properties that encoder lists show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from ..errors import SettingsError

if TYPE_CHECKING:
    import torch

    from ..settings import Settings


class Encoder(Protocol):
    """Turns images into dense features. Networks are frozen.

    Attributes:
        weights_sha256: checksum of the weights in use; None or absent if there are none. Features of an encoder
            without it are not cached.
        reach: for volume encoders, the radius in voxels of the neighbourhood that features depend on.
        window: for your own volume encoders, see `EncoderInfo`; absent means 0.
    """

    weights_sha256: str | None
    reach: int

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of intensities in 0..1.

        Slice encoders take (B, H, W), square, and return (B, D, h, w): token (i, j) is centred on the continuous
        index ((i + 1/2) H/h - 1/2, (j + 1/2) W/w - 1/2); special tokens are dropped. Volume encoders take (1, Z, H,
        W) and return (1, D, Z, H, W).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """Properties of an encoder, available without loading it or torch.

    Attributes:
        name: identifier for the user.
        title: display name; the name if empty.
        kind: "slice" for 2D networks applied to axial slices, "volume" for 3D networks and descriptors.
        channels: features per token, D.
        components: default number of principal components, d.
        tokens: tokens along one side of a slice; 0 for one per voxel.
        window: for 3D networks, voxels along each side of the overlapping windows they are applied to; 0 for
            descriptors, which are computed in slabs with `Encoder.reach` more voxels on each side.
        window_voxel_bytes: for 3D networks, memory for each voxel of a window, measured.
        domain: training images.
        strategy: training method.
        finding: result of the paper for registration with it, or measured here.
        license: of the weights.
        citation: the paper to cite.
        weights: names of its catalogue entries, in order; empty if none are downloaded.
        build: makes the encoder for given settings on a device.
        packaged_sha256: checksum of weights from a Python package, None for others.
        is_formula: whether it has nothing to learn, so that its name and the settings determine the features.
        build_untrained: makes it with random weights, for benchmarks without the weights.
    """

    name: str
    build: Callable[[Settings, torch.device], Encoder]
    title: str = ""
    kind: Literal["slice", "volume"] = "slice"
    channels: int
    components: int = 24
    tokens: int
    window: int = 0
    window_voxel_bytes: float = 0.0
    domain: str = ""
    strategy: str = ""
    finding: str = ""
    license: str = ""
    citation: str = ""
    weights: tuple[str, ...] = ()
    packaged_sha256: str | None = None
    is_formula: bool = False
    build_untrained: Callable[[Settings, torch.device], Encoder] | None = None

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)


@dataclass(frozen=True)
class EncoderFamily:
    """Encoders that share a prefix and are too many to list.

    Attributes:
        prefix: prefix of their names.
        title: display name.
        resolve: returns the properties of an encoder by full name; raises SettingsError if there is none.
    """

    prefix: str
    title: str
    resolve: Callable[[str], EncoderInfo]


# Mean and standard deviation of the colour channels in training, for intensities in 0..1.
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: Statistics = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def input_pixels(settings: Settings, own: int, multiple: int) -> int:
    """Return the pixels along one side of an encoder's input, from the settings or its default.

    Args:
        settings: `input_size`; 0 uses the encoder's default.
        own: the encoder's default.
        multiple: pixels per token; the input must be a multiple.

    Raises:
        SettingsError: the size is not a multiple.
    """
    size = settings.input_size or own
    if size % multiple:
        below = size - size % multiple
        msg = (
            f"input_size is {size}; '{settings.encoder}' needs a multiple of {multiple}: "
            f"use {f'{below} or ' if below else ''}{below + multiple}."
        )
        raise SettingsError(msg)
    return size


def side_of(positions: int) -> int:
    """Return the tokens along one side of the square of a position embedding.

    Raises:
        ValueError: the number of positions is not a square.
    """
    side = math.isqrt(positions)
    if side**2 != positions:
        msg = f"its {positions} token positions do not form a square"
        raise ValueError(msg)
    return side


def standardised(images: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Return colour images (B, 3, H, W) in 0..1, standardised with the training statistics of a network."""
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in statistics)
    return (images - mean) / deviation


def network_input(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return square slices (B, H, H) as colour images (B, 3, size, size), antialiased when downsampled."""
    import torch.nn.functional as F

    found = images[:, None].cpu() if images.device.type == "mps" else images[:, None]  # has no antialiasing
    resized = F.interpolate(found, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.to(images.device).expand(-1, 3, -1, -1)
