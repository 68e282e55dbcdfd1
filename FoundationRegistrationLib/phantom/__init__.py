"""Synthetic breast pairs and dynamic series with exact ground truth.

The anatomy is a function of continuous points, the motion a closed-form map. A volume is the anatomy evaluated at
the voxels' mapped centres, so no label is interpolated and the displacement is exact. `make_phantom` gives volumes,
masks, landmarks and the displacement of a pair, one kind for each of the paper's four tasks; `make_dynamic_phantom`
gives a series after contrast. Everything is in LPS mm.
"""

from __future__ import annotations

from .case import LABELS, TASKS, PhantomCase
from .checks import DIFFICULTIES, check_choice, check_drawn
from .dynamic import DYNAMIC_LABELS, MOTIONS, DynamicPhantom, make_dynamic_phantom
from .easy import easy_pair
from .patient import patient_pair

__all__ = [
    "DIFFICULTIES",
    "DYNAMIC_LABELS",
    "LABELS",
    "MOTIONS",
    "TASKS",
    "DynamicPhantom",
    "PhantomCase",
    "make_dynamic_phantom",
    "make_phantom",
]


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
    check_choice("phantom task", task, TASKS)
    check_drawn(seed, spacing_mm, difficulty)
    return (patient_pair if difficulty == "patient" else easy_pair)(task, seed, spacing_mm)
