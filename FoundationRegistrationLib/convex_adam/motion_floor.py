"""Motion that is no larger than what noise alone pretends is taken back."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..runtime.progress import Progress
from .regularisers import filtered, gaussian_matrices
from .stages import Found, Volumes

_REACH = 5.0  # working voxels


@dataclass(frozen=True)
class MotionFloor:
    """Stage: shrink the displacement towards the initial alignment where it is small.

    Noise moves tissue that has not moved by a part of a voxel. A displacement whose mean square in the neighbourhood
    is `m` is multiplied by `1 - floor ** 2 / m`, or by 0 where that is negative: nothing is left of what noise makes,
    nearly all of a motion several times as large. This is the estimator of James and Stein (Proc. Fourth Berkeley
    Symposium, 1961) in its positive part, for each neighbourhood.

    Attributes:
        floor: root mean square of the displacement that noise alone makes, working voxels.
    """

    floor: float

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the displacement without what may be noise; see `Stage`."""
        progress.advance(0.0)
        square = (found.displacement * volumes.spacing).square().sum(0)
        weight = volumes.counted(found.displacement)
        weight = torch.ones_like(square) if weight is None else weight
        around = gaussian_matrices(found.displacement, _REACH / volumes.spacing)
        # Far from all tissue everything counts the same.
        sums = filtered(torch.stack((weight * square, weight, square)), around)
        tiny = torch.finfo(square.dtype).eps
        mean = (sums[0] + tiny * sums[2]) / (sums[1] + tiny)
        kept = (1.0 - self.floor**2 / mean.clamp_min(tiny)).clamp_min_(0.0)
        return found.refined(found.displacement * kept)
