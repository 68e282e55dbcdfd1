"""anatomix: 3D U-Nets trained by contrastive learning on synthetic volumes, applied to whole volumes.

Sources: Dey et al., "Learning general-purpose biomedical volume representations using randomized synthesis", ICLR
2025; the authors' repository neel-dey/anatomix and its registration with ConvexAdam.

Different from that registration: intensities are in 0..1 after the normalisation of this package (percentiles of MR,
-200..250 HU of CT), not from minimum to maximum; windows overlap by half, see `features/windows.py`, not by 80 %;
axes are (z, y, x), not in the order of the file; volumes are extended by their last voxel, not by zeros; masks weight
the comparison and leave the features as they are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .base import EncoderInfo

if TYPE_CHECKING:
    import torch

    from ..settings import Settings
    from .mind import MindEncoder
    from .networks.unet3d import UNet3d

_WINDOW = 128  # the authors' size, in training too
# The authors' factor, which brings the features to the scale of MIND-SSC.
_SCALE = 0.1
_VOXEL_BYTES = {"anatomix": 700.0, "anatomix-dev": 1500.0}  # on the CPU, in float32
_DOMAINS = {
    "anatomix": "synthetic volumes of randomly placed organ shapes with random contrast",
    "anatomix-dev": "more synthetic volumes than anatomix",
}
_COMPILED = "_orig_mod."  # prefix of names saved from a compiled network


class AnatomixEncoder:
    """Features of every voxel of a window; those near its borders depend on where it ends.

    Args:
        network: on the device.
        unit_length: features of a voxel have length 1, as the authors ask for `anatomix-dev`; else they are scaled.
        mind: descriptor whose features come first; None for the network's alone.
        weights_sha256: checksum of the weights.
    """

    window = _WINDOW
    reach = _WINDOW  # the network sees about 100 voxels far, with instance normalisation the whole window

    def __init__(
        self, network: UNet3d, unit_length: bool, mind: MindEncoder | None, weights_sha256: str | None
    ) -> None:
        self._network = network
        self._unit_length = unit_length
        self._mind = mind
        self.weights_sha256 = weights_sha256

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of (1, Z, H, W) intensities in 0..1 as (1, D, Z, H, W)."""
        import torch
        import torch.nn.functional as F

        features = self._network(images[None])
        features = F.normalize(features, dim=1) if self._unit_length else features * _SCALE
        return features if self._mind is None else torch.cat([self._mind.encode(images), features], dim=1)


def _build(settings: Settings, device: torch.device, weights: str, mind: bool) -> AnatomixEncoder:
    from ..weights import load_exactly, read_checkpoint
    from .networks.values import without_values

    checkpoint = read_checkpoint(weights, settings)
    network = without_values(lambda: _network(weights))
    load_exactly(network, {key.removeprefix(_COMPILED): value for key, value in checkpoint.state.items()}, weights)
    return _encoder(network, settings, device, weights, mind, checkpoint.sha256)


def _build_untrained(settings: Settings, device: torch.device, weights: str, mind: bool) -> AnatomixEncoder:
    from .networks.values import randomise

    return _encoder(randomise(_network(weights)), settings, device, weights, mind, None)


def _network(weights: str) -> UNet3d:
    from .networks.unet3d import Architecture, UNet3d

    if weights == "anatomix":
        return UNet3d(Architecture(width=16, features=16, levels=4, instance_norm=False))
    return UNet3d(Architecture(width=32, features=32, levels=5, instance_norm=True))


def _encoder(
    network: UNet3d, settings: Settings, device: torch.device, weights: str, mind: bool, sha256: str | None
) -> AnatomixEncoder:
    from .mind import MindEncoder

    frozen = network.eval().requires_grad_(False).to(device)
    beside = MindEncoder(settings.mind_radius, settings.mind_dilation) if mind else None
    return AnatomixEncoder(frozen, weights != "anatomix", beside, sha256)


def _info(name: str, title: str, channels: int, weights: str, finding: str = "not in the paper") -> EncoderInfo:
    mind = name == "anatomix-mind"
    return EncoderInfo(
        name=name,
        title=title,
        kind="volume",
        channels=channels,
        components=channels,
        tokens=0,
        window=_WINDOW,
        window_voxel_bytes=_VOXEL_BYTES[weights],
        domain=_DOMAINS[weights],
        strategy="contrastive learning",
        finding=finding,
        license="MIT",
        citation="Dey et al., ICLR 2025",
        weights=(weights,),
        build=partial(_build, weights=weights, mind=mind),
        build_untrained=partial(_build_untrained, weights=weights, mind=mind),
    )


ENCODERS = (
    _info("anatomix", "anatomix, 3D U-Net", 16, "anatomix"),
    _info("anatomix-dev", "anatomix-dev, 3D U-Net", 32, "anatomix-dev"),
    _info("anatomix-mind", "MIND-SSC beside anatomix", 28, "anatomix", "not in the paper; for the preset `anatomix`"),
)
