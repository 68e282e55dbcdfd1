"""What a technologist sets at the scanner: sequence, field of view, voxels and orientation of each volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .acquisition import VoxelGrid
from .implicit import Points
from .motion import rotation

_AROUND_LESION_MM = 22.0
_AXIAL = np.eye(3)
_SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Index axes i, j, k along P, S, L."""


@dataclass(frozen=True)
class View:
    """How one volume is acquired.

    Attributes:
        contrast: a key of CONTRASTS.
        low: corner of the field of view, LPS mm of the volume's space.
        high: the opposite corner.
        in_plane: voxel size in units of the phantom's.
        slice_mm: thickness of a slice.
        direction: (3, 3), column n is the direction of index axis n.
    """

    contrast: str
    low: Points
    high: Points
    in_plane: float
    slice_mm: float
    direction: NDArray[np.float64]

    def grid(self, spacing_mm: float) -> VoxelGrid:
        """The voxel grid at a phantom's voxel size in mm."""
        plane = self.in_plane * spacing_mm
        return VoxelGrid.covering(
            self.low, self.high, (plane, plane, max(self.slice_mm, 1.05 * spacing_mm)), self.direction
        )


def draw_contrasts(rng: np.random.Generator, task: str) -> tuple[str, str]:
    """Sequences of the fixed and the moving volume."""
    if task == "longitudinal":
        both = str(rng.choice(["t1", "t1-fs"]))
        return both, both
    if task == "cross-sequence":
        fixed = str(rng.choice(["t1", "t1-fs"]))
        return fixed, str(rng.choice(["t2-fs", "t2", "t1-fs-enhanced"], p=[0.55, 0.2, 0.25]))
    if task == "lesion":
        return str(rng.choice(["t1-fs", "t1-fs-enhanced"], p=[0.6, 0.4])), "t1-fs-enhanced"
    return "t1-fs-enhanced", "ct"


def draw_mr_view(
    rng: np.random.Generator, contrast: str, breasts: Points, only: float = 0.0, lesion: Points | None = None
) -> View:
    """Draw the field of view of a breast MR around where the breasts are.

    Args:
        rng: source of all random choices.
        contrast: a key of CONTRASTS.
        breasts: (2, 3), low and high corner of the box around the breasts in the volume's space, LPS mm.
        only: +1 for the left breast alone, -1 for the right, 0 for both.
        lesion: (3,) what has to be seen whatever is cropped, mm like `breasts`.
    """
    low, high = breasts.copy()
    low -= np.array([rng.uniform(8.0, 55.0), rng.uniform(10.0, 50.0), rng.uniform(0.0, 85.0)])
    high += np.array([rng.uniform(8.0, 55.0), rng.uniform(30.0, 150.0), rng.uniform(0.0, 75.0)])
    middle = 0.5 * (low[0] + high[0])
    if only > 0.0:
        low[0] = middle - 25.0
    elif only < 0.0:
        high[0] = middle + 25.0
    elif rng.random() < 0.12:  # a border runs through a breast
        axis = int(rng.choice([0, 2]))
        cut = rng.uniform(10.0, 35.0)
        if rng.random() < 0.5:
            low[axis] = breasts[0, axis] + cut
        else:
            high[axis] = breasts[1, axis] - cut
    if lesion is not None:
        low, high = np.minimum(low, lesion - _AROUND_LESION_MM), np.maximum(high, lesion + _AROUND_LESION_MM)
    direction = _AXIAL
    kind = rng.random()
    if kind < 0.12:
        direction = _SAGITTAL
    elif kind < 0.5:
        direction = rotation(np.deg2rad([rng.uniform(-9.0, 9.0), 0.0, rng.uniform(-9.0, 9.0)]))
    thick = rng.uniform(2.0, 4.0) if contrast.startswith("t2") else rng.uniform(1.0, 2.2)
    return View(contrast, low, high, float(rng.uniform(0.9, 1.2)), float(thick), direction)


def draw_one_sided(rng: np.random.Generator) -> tuple[float, float]:
    """Which breast the fixed and the moving volume show alone, as `only` of `draw_mr_view`: mostly neither."""
    side = float(rng.choice([-1.0, 1.0]))
    alone = rng.random()
    return (side if alone < 0.05 else 0.0), (side if 0.03 < alone < 0.08 else 0.0)


def ct_view(breasts: Points) -> View:
    """The field of view of a CT of the chest, around where the breasts are."""
    middle = breasts.mean(axis=0)
    low = np.array([middle[0] - 215.0, breasts[0, 1] - 30.0, middle[2] - 125.0])
    return View("ct", low, low + np.array([430.0, 330.0, 250.0]), 1.2, 2.0, _AXIAL)
