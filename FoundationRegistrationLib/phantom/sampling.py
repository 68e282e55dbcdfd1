"""What both kinds of phantom do alike: slabs of a grid, and a pair put together with its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .acquisition import VoxelGrid
from .anatomy import Anatomy
from .case import PhantomCase
from .implicit import Points

_CHUNK_POINTS = 200_000


class TrueMotion(Protocol):
    """A motion that is known exactly. All points are (N, 3), LPS mm."""

    def __call__(self, points: Points) -> Points:
        """Fixed points to moving points: T(x)."""

    def fixed_from_reference(self, points: Points) -> Points:
        """Reference points, where the anatomy is defined, to fixed points."""


@dataclass(frozen=True)
class Acquired:
    """One volume of a pair, its masks, the grid of both, and the sequence (a key of CONTRASTS)."""

    image: sitk.Image
    labels: Mapping[str, sitk.Image]
    grid: VoxelGrid
    sequence: str


def slabs(grid: VoxelGrid) -> list[tuple[int, int]]:
    """Ranges of k that keep the number of points evaluated at once small."""
    thick = max(_CHUNK_POINTS // (grid.size[0] * grid.size[1]), 1)
    return [(k, min(k + thick, grid.size[2])) for k in range(0, grid.size[2], thick)]


def with_truth(
    task: str,
    seed: int,
    fixed: Acquired,
    moving: Acquired,
    anatomy: Anatomy,
    motion: TrueMotion,
    rng: np.random.Generator,
    pet: sitk.Image | None,
) -> PhantomCase:
    """Put a pair together with its exact displacement, and with landmarks drawn from `rng`."""
    landmarks = _seen_landmarks(anatomy, motion, fixed.grid, moving.grid, rng)
    return PhantomCase(
        task=task,
        seed=seed,
        fixed=fixed.image,
        moving=moving.image,
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        displacement=displacement_field(motion, fixed.grid),
        fixed_landmarks=landmarks,
        moving_landmarks=motion(landmarks),
        pet=pet,
        sequences=(fixed.sequence, moving.sequence),
        density=anatomy.density,
    )


def displacement_field(motion: Callable[[Points], Points], grid: VoxelGrid) -> sitk.Image:
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


def _seen_landmarks(
    anatomy: Anatomy, motion: TrueMotion, fixed_grid: VoxelGrid, moving_grid: VoxelGrid, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Fixed landmarks (N, 3) that lie in the body and in both volumes."""
    reference = anatomy.landmarks(rng)
    inside = anatomy(reference, lesion=False).targets["body"]
    fixed = motion.fixed_from_reference(reference[inside])
    seen = fixed_grid.contains(fixed, 4.0) & moving_grid.contains(motion(fixed), 4.0)
    return fixed[seen]
