"""MIND-SSC, the modality independent neighbourhood descriptor with self-similarity context.

Source: Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using
self-similarities", MICCAI 2013. No weights: it compares patches of the volume with each other.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from .base import EncoderInfo

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

# The six neighbours of a voxel, and their twelve pairs at right angles.
_NEIGHBOURS = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
_PAIRS = tuple(
    (a, b) for a, b in itertools.combinations(_NEIGHBOURS, 2) if sum(x * y for x, y in zip(a, b, strict=True)) == 0
)

_VOXELS_AT_ONCE = 262144  # many more exceed the cache, many fewer make threads wait for each other


class MindEncoder:
    """MIND-SSC with a patch radius and a dilation, both in voxels; 12 features in 0..1 per voxel."""

    weights_sha256: str | None = None

    def __init__(self, radius: int, dilation: int) -> None:
        self.radius = radius
        self.dilation = dilation
        self.reach = radius + dilation

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the descriptor of (1, Z, H, W) intensities as (1, 12, Z, H, W)."""
        import torch

        distances = self._patch_distances(images)
        variance = torch.empty_like(images)
        planes = max(1, _VOXELS_AT_ONCE // images[0, 0].numel())
        parts = list(zip(distances.split(planes, dim=1), variance[0].split(planes), strict=True))
        for part, spread in parts:
            part -= part.amin(dim=0)
            torch.mean(part, dim=0, out=spread)
        typical = variance.mean()
        variance.clamp_(1e-3 * typical, 1e3 * typical).clamp_min_(torch.finfo(variance.dtype).tiny)
        for part, spread in parts:
            part.div_(spread).neg_().exp_()
        return distances[None]

    def _patch_distances(self, images: torch.Tensor) -> torch.Tensor:
        """Return the sum of squared differences of the patches of each pair, (12, Z, H, W)."""
        import torch
        import torch.nn.functional as F

        dilation, radius = self.dilation, self.radius
        shape = images.shape[1:]
        padded = F.pad(images[None], (dilation,) * 6, mode="replicate")[0, 0]

        def shifted(offset: tuple[int, int, int]) -> torch.Tensor:
            start = [dilation * (1 + step) for step in offset]
            return padded[tuple(slice(at, at + size) for at, size in zip(start, shape, strict=True))]

        squared = images.new_empty([size + 2 * radius for size in shape])
        inside = squared[tuple(slice(radius, radius + size) for size in shape)]
        result = images.new_empty((len(_PAIRS), *shape))
        for distance, (one, other) in zip(result, _PAIRS, strict=True):
            torch.sub(shifted(one), shifted(other), out=inside).square_()
            _repeat_border(squared, radius)
            distance.copy_(_sum_over_patch(squared, radius))
        return result


def _repeat_border(volume: torch.Tensor, width: int) -> None:
    """Fill the outer `width` voxels of (z, y, x) with the nearest of those inside, in place."""
    for axis, size in enumerate(volume.shape):
        volume.narrow(axis, 0, width).copy_(volume.narrow(axis, width, 1))
        volume.narrow(axis, size - width, width).copy_(volume.narrow(axis, size - width - 1, 1))


def _sum_over_patch(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """Sum (z, y, x) over the cube around each voxel, without those nearer than `radius` to the border.

    Shifted copies are added: for narrow patches this is many times faster than torch's pooling on the CPU.
    """
    for axis, size in enumerate(volume.shape):
        kept = size - 2 * radius
        total = volume.narrow(axis, 0, kept) + volume.narrow(axis, 1, kept)
        for step in range(2, 2 * radius + 1):
            total += volume.narrow(axis, step, kept)
        volume = total
    return volume


def _build(settings: Settings, device: torch.device) -> MindEncoder:
    return MindEncoder(settings.mind_radius, settings.mind_dilation)


ENCODERS = (
    EncoderInfo(
        name="mind",
        title="MIND-SSC",
        kind="volume",
        channels=12,
        components=12,
        tokens=0,
        domain="none",
        strategy="a hand-crafted descriptor of local structure, the same for every modality",
        finding="breast Dice 80.8, 73.4, 78.3 %; fibroglandular tissue (53.3, 42.4, 50.3 %) better than the "
        "networks, except across sequences; fails between CT and MR (measured here)",
        license="no weights",
        citation="Heinrich et al., MICCAI 2013",
        is_formula=True,
        build=_build,
    ),
)
