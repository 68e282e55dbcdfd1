"""Synthetic breast pairs with exact ground truth, one kind for each of the paper's four tasks.

The anatomy is a function of continuous points, the motion a closed-form map. A volume is the anatomy evaluated at
the voxels' mapped centres, so no label is interpolated and the displacement is exact. `make_phantom` gives volumes,
masks, landmarks and the displacement. Everything is in LPS mm.
"""

from __future__ import annotations

from ..errors import SettingsError
from .case import LABELS, TASKS, PhantomCase
from .easy import easy_pair
from .patient import patient_pair

__all__ = ["DIFFICULTIES", "LABELS", "TASKS", "PhantomCase", "make_phantom"]

DIFFICULTIES = ("patient", "easy")
_SPACINGS_MM = (0.5, 20.0)


def make_phantom(task: str, seed: int = 0, *, spacing_mm: float = 1.5, difficulty: str = "patient") -> PhantomCase:
    """Make a synthetic bilateral breast pair with exact ground truth.

    The same arguments always give the same bits. Patient and motion depend on (seed, task, difficulty) alone, so
    another `spacing_mm` shows the same patient on finer or coarser voxels.

    Args:
        task: "longitudinal" (T1, two dates), "cross-sequence" (T1 and T2 or enhanced T1), "lesion" (only moving has
            the lesion) or "pet-ct-to-mri" (prone MR fixed; supine CT and PET moving; both have the lesion).
        seed: 0 or more.
        spacing_mm: in-plane voxel size of the fixed volume, about; the others scale with it. PET is always 4 mm.
        difficulty: "patient" is as hard as patients: another table position and field of view, nearly
            incompressible tissue, thin strands of gland that change between the dates, artefacts, and masks as two
            annotators would draw them. "easy" has small smooth motion, block-like gland and exact masks.

    Returns:
        The pair, its masks, its displacement (fixed point -> moving point) and corresponding landmarks.

    Raises:
        SettingsError: unknown task or difficulty, negative seed, or a spacing_mm that is too small for memory or too
            large to show the anatomy.
    """
    _check(task, seed, spacing_mm, difficulty)
    return (patient_pair if difficulty == "patient" else easy_pair)(task, seed, spacing_mm)


def _check(task: str, seed: int, spacing_mm: float, difficulty: str) -> None:
    if task not in TASKS:
        msg = f"Unknown phantom task '{task}'. Choose one of: {', '.join(TASKS)}."
        raise SettingsError(msg)
    if difficulty not in DIFFICULTIES:
        msg = f"Unknown difficulty '{difficulty}' of a phantom. Choose one of: {', '.join(DIFFICULTIES)}."
        raise SettingsError(msg)
    if seed < 0:
        msg = f"The phantom's seed must be 0 or more, not {seed}."
        raise SettingsError(msg)
    if not _SPACINGS_MM[0] <= spacing_mm <= _SPACINGS_MM[1]:
        msg = (
            f"The phantom's spacing_mm must lie between {_SPACINGS_MM[0]} and {_SPACINGS_MM[1]} mm, not {spacing_mm}."
        )
        raise SettingsError(msg)
