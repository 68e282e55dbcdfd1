"""Synthetic breast pairs with exact ground truth, one kind for each of the paper's four tasks.

The anatomy is a function of continuous points (`anatomy`), the motion a closed-form map (`deformation`). A
volume is the anatomy evaluated at the voxels' mapped centres, so no label is interpolated and the
displacement is exact. `make_phantom` gives volumes, masks, landmarks and the
displacement. Everything is in LPS mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import SettingsError
from .acquisition import AIR_HU, CONTRASTS, VoxelGrid, acquire_ct, acquire_mr, acquire_pet, paint
from .anatomy import TARGETS, Anatomy, Tissues
from .implicit import Points
from .motion import Motion, draw_motion

__all__ = ["LABELS", "TASKS", "PhantomCase", "make_phantom"]

TASKS = ("longitudinal", "cross-sequence", "lesion", "pet-ct-to-mri")
LABELS: Mapping[str, int] = MappingProxyType({"breast": 1, "fibroglandular": 2, "organ": 3, "lesion": 4})

_AXIAL = np.eye(3)
_SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Index axes i, j, k along P, S, L."""
_CHUNK_POINTS = 200_000
_SPACINGS_MM = (0.5, 20.0)
_PET_SPACING_MM = 4.0


@dataclass(frozen=True)
class PhantomCase:
    """One pair with its truth. All points and vectors are LPS mm.

    Attributes:
        task: one of TASKS.
        seed: the seed it was drawn from.
        fixed: MR volume, float32.
        moving: MR volume (float32), or CT in HU (int16) for "pet-ct-to-mri".
        fixed_labels: uint8 masks on the fixed grid: "body", "breast" (gland and lesion included),
            "fibroglandular", "organ" (heart and liver) and, where there is one, "lesion".
        moving_labels: the same on the moving grid.
        displacement: vector float64 on the fixed grid, T(x) - x in mm: moving point minus fixed point.
        fixed_landmarks: (N, 3) points inside the body.
        moving_landmarks: (N, 3) the same anatomical points in the moving volume, T(fixed_landmarks).
        pet: SUV, float32, on its own grid in the moving CT's space; None for the other tasks.
    """

    task: str
    seed: int
    fixed: sitk.Image
    moving: sitk.Image
    fixed_labels: Mapping[str, sitk.Image]
    moving_labels: Mapping[str, sitk.Image]
    displacement: sitk.Image
    fixed_landmarks: NDArray[np.float64]
    moving_landmarks: NDArray[np.float64]
    pet: sitk.Image | None

    def labelmap(self, side: Literal["fixed", "moving"]) -> sitk.Image:
        """One uint8 label map with the values of LABELS, background 0.

        A voxel of several targets takes the most specific: lesion, then fibroglandular, then breast. So label
        1 alone is the breast's fat and skin; the whole breast is 1, 2 and 4 together.

        Args:
            side: "fixed" or "moving".
        """
        masks = {"fixed": self.fixed_labels, "moving": self.moving_labels}[side]
        image = masks["breast"] * 0
        for name, value in LABELS.items():
            if name in masks:
                image = sitk.Mask(image, masks[name], outsideValue=0, maskingValue=1) + masks[name] * value
        return image


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


_FIXED_BOX = ((-164.0, -130.0, -94.0), (164.0, 90.0, 94.0))
_MOVING_BOX = ((-172.0, -124.0, -101.0), (168.0, 108.0, 99.0))
_CT_BOX = ((-200.0, -72.0, -100.0), (200.0, 228.0, 100.0))
_SIDES = {
    "longitudinal": (
        _Side("t1", *_FIXED_BOX, (1.0, 1.0, 1.25), _SAGITTAL, lesion=False),
        _Side("t1", *_MOVING_BOX, (1.2, 1.2, 1.2), _AXIAL, lesion=False),
    ),
    "cross-sequence": (
        _Side("t1", *_FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=False),
        _Side("t2-fs", *_MOVING_BOX, (1.1, 1.1, 1.5), _oblique(6.0, -8.0), lesion=False),
    ),
    "lesion": (
        _Side("t1-fs", *_FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=False),
        _Side("t1-fs", *_MOVING_BOX, (1.2, 1.2, 1.2), _AXIAL, lesion=True),
    ),
    "pet-ct-to-mri": (
        _Side("t1-fs", *_FIXED_BOX, (1.0, 1.0, 1.25), _AXIAL, lesion=True),
        _Side("ct", *_CT_BOX, (1.2, 1.2, 1.3), _AXIAL, lesion=True),
    ),
}


def make_phantom(task: str, seed: int = 0, *, spacing_mm: float = 1.5) -> PhantomCase:
    """Make a synthetic bilateral breast pair with exact ground truth.

    The same arguments always give the same bits. Patient and motion depend on (seed, task) alone, so another
    `spacing_mm` shows the same patient on finer or coarser voxels.

    Args:
        task: "longitudinal" (T1, two dates; the fixed volume is stored sagittally), "cross-sequence" (T1 and
            an oblique fat-suppressed T2), "lesion" (fat-suppressed enhanced T1; only moving has the lesion)
            or "pet-ct-to-mri" (prone MR fixed; supine CT and PET moving; both have the lesion).
        seed: 0 or more.
        spacing_mm: in-plane voxel size of the fixed volume; the others scale with it. PET is always 4 mm.

    Returns:
        The pair, its masks, its displacement (fixed point -> moving point) and corresponding landmarks.

    Raises:
        SettingsError: unknown task, negative seed, or a spacing_mm that is too small for memory or too large to show
            the anatomy.
    """
    _check(task, seed, spacing_mm)
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
        back_y = _back(moving_labels["body"])
        moving = acquire_ct(moving_signal, moving_grid, back_y, moving_rng)
        pet_grid = VoxelGrid.covering(
            np.array(moving_side.low) - 8.0, np.array(moving_side.high) + 8.0, (_PET_SPACING_MM,) * 3, _AXIAL
        )
        pet = acquire_pet(_tissues(anatomy, pet_grid, motion), pet_grid, moving_rng)
    else:
        moving = acquire_mr(moving_signal, moving_grid, moving_rng)
    landmarks = _landmarks(anatomy, motion, fixed_grid, moving_grid, point_rng)
    return PhantomCase(
        task=task,
        seed=seed,
        fixed=fixed,
        moving=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        displacement=_displacement(motion, fixed_grid),
        fixed_landmarks=landmarks,
        moving_landmarks=motion(landmarks),
        pet=pet,
    )


def _check(task: str, seed: int, spacing_mm: float) -> None:
    if task not in TASKS:
        msg = f"Unknown phantom task '{task}'. Choose one of: {', '.join(TASKS)}."
        raise SettingsError(msg)
    if seed < 0:
        msg = f"The phantom's seed must be 0 or more, not {seed}."
        raise SettingsError(msg)
    if not _SPACINGS_MM[0] <= spacing_mm <= _SPACINGS_MM[1]:
        msg = (
            f"The phantom's spacing_mm must lie between {_SPACINGS_MM[0]} and {_SPACINGS_MM[1]} mm, not {spacing_mm}."
        )
        raise SettingsError(msg)


def _slabs(grid: VoxelGrid) -> list[tuple[int, int]]:
    """Ranges of k that keep the number of points evaluated at once small."""
    thick = max(_CHUNK_POINTS // (grid.size[0] * grid.size[1]), 1)
    return [(k, min(k + thick, grid.size[2])) for k in range(0, grid.size[2], thick)]


def _evaluate(
    anatomy: Anatomy, side: _Side, grid: VoxelGrid, to_reference: Callable[[Points], Points]
) -> tuple[NDArray[np.float32], dict[str, sitk.Image]]:
    """Signal without noise (N,) and masks of one volume: the anatomy at its voxels' reference points."""
    signals: list[NDArray[np.float32]] = []
    masks: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in TARGETS}
    background = AIR_HU if side.contrast == "ct" else 0.0
    for first, last in _slabs(grid):
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


def _displacement(motion: Motion, grid: VoxelGrid) -> sitk.Image:
    parts = []
    for first, last in _slabs(grid):
        points = grid.points(first, last)
        parts.append(motion(points) - points)
    return grid.image(np.concatenate(parts))


def _back(body: sitk.Image) -> float:
    """The most posterior y of the body, LPS mm, for an axial grid."""
    rows = np.flatnonzero(sitk.GetArrayViewFromImage(body).any(axis=(0, 2)))
    return float(body.TransformIndexToPhysicalPoint((0, int(rows[-1]), 0))[1])


def _landmarks(
    anatomy: Anatomy, motion: Motion, fixed_grid: VoxelGrid, moving_grid: VoxelGrid, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Fixed landmarks (N, 3) that lie in the body and in both volumes."""
    reference = anatomy.landmarks(rng)
    inside = anatomy(reference, lesion=False).targets["body"]
    fixed = motion.fixed_from_reference(reference[inside])
    seen = fixed_grid.contains(fixed, 4.0) & moving_grid.contains(motion(fixed), 4.0)
    return fixed[seen]
