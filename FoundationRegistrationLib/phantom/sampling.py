"""What both kinds of phantom sample alike: slabs of a grid, the displacement on it, landmarks."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .acquisition import VoxelGrid
from .anatomy import Anatomy
from .implicit import Points

_CHUNK_POINTS = 200_000


class TrueMotion(Protocol):
    """A motion that is known exactly. All points are (N, 3), LPS mm."""

    def __call__(self, points: Points) -> Points:
        """Fixed points to moving points: T(x)."""

    def fixed_from_reference(self, points: Points) -> Points:
        """Reference points, where the anatomy is defined, to fixed points."""


def slabs(grid: VoxelGrid) -> list[tuple[int, int]]:
    """Ranges of k that keep the number of points evaluated at once small."""
    thick = max(_CHUNK_POINTS // (grid.size[0] * grid.size[1]), 1)
    return [(k, min(k + thick, grid.size[2])) for k in range(0, grid.size[2], thick)]


def displacement_field(motion: TrueMotion, grid: VoxelGrid) -> sitk.Image:
    """T(x) - x on a grid of the fixed space: vector float64, LPS mm."""
    parts = []
    for first, last in slabs(grid):
        points = grid.points(first, last)
        parts.append(motion(points) - points)
    return grid.image(np.concatenate(parts))


def back(body: sitk.Image) -> float:
    """The most posterior y of the body, LPS mm, for an axial grid."""
    rows = np.flatnonzero(sitk.GetArrayViewFromImage(body).any(axis=(0, 2)))
    return float(body.TransformIndexToPhysicalPoint((0, int(rows[-1]), 0))[1])


def seen_landmarks(
    anatomy: Anatomy, motion: TrueMotion, fixed_grid: VoxelGrid, moving_grid: VoxelGrid, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Fixed landmarks (N, 3) that lie in the body and in both volumes."""
    reference = anatomy.landmarks(rng)
    inside = anatomy(reference, lesion=False).targets["body"]
    fixed = motion.fixed_from_reference(reference[inside])
    seen = fixed_grid.contains(fixed, 4.0) & moving_grid.contains(motion(fixed), 4.0)
    return fixed[seen]
