"""The easy pair: block-like gland, small smooth motion, one field of view, masks of the true anatomy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .acquisition import VoxelGrid, acquire_ct, acquire_mr, acquire_pet, paint
from .anatomy import TARGETS, Anatomy, Tissues
from .case import TASKS, PhantomCase
from .contrasts import AIR_HU, CONTRASTS
from .implicit import Points
from .motion import Motion, draw_motion
from .sampling import Acquired, back, slabs, with_truth

_AXIAL = np.eye(3)
_SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Index axes i, j, k along P, S, L."""
_PET_SPACING_MM = 4.0


@dataclass(frozen=True)
class _Side:
    """How one volume of a pair is acquired. `low` and `high` bound the field of view, LPS mm."""

    contrast: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    spacing: tuple[float, float, float]
    direction: NDArray[np.float64]
    lesion: bool

    def grid(self, spacing_mm: float) -> VoxelGrid:
        step = (self.spacing[0] * spacing_mm, self.spacing[1] * spacing_mm, self.spacing[2] * spacing_mm)
        return VoxelGrid.covering(np.array(self.low), np.array(self.high), step, self.direction)


def _oblique(degrees_x: float, degrees_z: float) -> NDArray[np.float64]:
    a, c = np.deg2rad([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_x


FIXED_BOX = ((-164.0, -130.0, -94.0), (164.0, 90.0, 94.0))
_MOVING_BOX = ((-172.0, -124.0, -101.0), (168.0, 108.0, 99.0))
_CT_BOX = ((-200.0, -72.0, -100.0), (200.0, 228.0, 100.0))
_SIDES = {
    "longitudinal": (
        _Side("t1", *FIXED_BOX, (1.0, 1.0, 1.25), _SAGITTAL, lesion=False),
        _Side("t1", *_MOVING_BOX, (1.2, 1.2, 1.2), _AXIAL, lesion=False),
    ),
    "cross-sequence": (
        _Side("t1", *FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=False),
        _Side("t2-fs", *_MOVING_BOX, (1.1, 1.1, 1.5), _oblique(6.0, -8.0), lesion=False),
    ),
    "lesion": (
        _Side("t1-fs-enhanced", *FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=False),
        _Side("t1-fs-enhanced", *_MOVING_BOX, (1.2, 1.2, 1.2), _AXIAL, lesion=True),
    ),
    "pet-ct-to-mri": (
        _Side("t1-fs-enhanced", *FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=True),
        _Side("ct", *_CT_BOX, (1.2, 1.2, 1.3), _AXIAL, lesion=True),
    ),
}


def easy_pair(task: str, seed: int, spacing_mm: float) -> PhantomCase:
    """Make the pair of `make_phantom` with difficulty "easy"."""
    patient_rng, motion_rng, fixed_rng, moving_rng, point_rng = (
        np.random.default_rng([seed, TASKS.index(task), stream]) for stream in range(5)
    )
    anatomy = Anatomy(patient_rng)
    motion = draw_motion(motion_rng, supine=task == "pet-ct-to-mri")
    fixed_side, moving_side = _SIDES[task]
    fixed_grid, moving_grid = fixed_side.grid(spacing_mm), moving_side.grid(spacing_mm)

    fixed_signal, fixed_labels = _evaluate(anatomy, fixed_side, fixed_grid, motion.reference_from_fixed)
    moving_signal, moving_labels = _evaluate(anatomy, moving_side, moving_grid, motion.reference_from_moving)
    fixed = acquire_mr(fixed_signal, fixed_grid, fixed_rng)
    pet = None
    if moving_side.contrast == "ct":
        back_y = back(moving_labels["body"])
        moving = acquire_ct(moving_signal, moving_grid, back_y, moving_rng)
        pet_grid = VoxelGrid.covering(
            np.array(moving_side.low) - 8.0, np.array(moving_side.high) + 8.0, (_PET_SPACING_MM,) * 3, _AXIAL
        )
        pet = acquire_pet(_tissues(anatomy, pet_grid, motion), pet_grid, moving_rng)
    else:
        moving = acquire_mr(moving_signal, moving_grid, moving_rng)
    return with_truth(
        task,
        seed,
        Acquired(fixed, fixed_labels, fixed_grid, fixed_side.contrast),
        Acquired(moving, moving_labels, moving_grid, moving_side.contrast),
        anatomy,
        motion,
        point_rng,
        pet,
    )


def _evaluate(
    anatomy: Anatomy, side: _Side, grid: VoxelGrid, to_reference: Callable[[Points], Points]
) -> tuple[NDArray[np.float32], dict[str, sitk.Image]]:
    """Signal without noise (N,) and masks of one volume: the anatomy at its voxels' reference points."""
    signals: list[NDArray[np.float32]] = []
    masks: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in TARGETS}
    background = AIR_HU if side.contrast == "ct" else 0.0
    for first, last in slabs(grid):
        tissues = anatomy(to_reference(grid.points(first, last)), lesion=side.lesion)
        signals.append(paint(tissues, CONTRASTS[side.contrast], background, min(grid.spacing)))
        for name in TARGETS:
            masks[name].append(tissues.targets[name])
    labels = {n: grid.image(np.concatenate(m).astype(np.uint8)) for n, m in masks.items()}
    if not side.lesion:
        del labels["lesion"]
    return np.concatenate(signals), labels


def _tissues(anatomy: Anatomy, grid: VoxelGrid, motion: Motion) -> Tissues:
    """The anatomy over a whole small grid of the moving space, with the lesion."""
    return anatomy(motion.reference_from_moving(grid.points(0, grid.size[2])), lesion=True)
