"""How well labels and landmarks agree before and after a registration."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import check_same_grid
from .metrics import evaluate_labels, target_registration_error, volume_error
from .transforms import warp_labels


def evaluate_label_maps(
    transform: sitk.Transform, fixed_labels: sitk.Image, moving_labels: sitk.Image
) -> dict[str, Any]:
    """Compare label maps as they were given and as the transform brings them together.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed_labels: label map in fixed space, background 0.
        moving_labels: label map in moving space, on any grid.

    Returns:
        Dice, HD95 (mm) and volume change (fraction, paper's V_epsilon) for each label, before and after.

    Raises:
        InputError: a label map does not hold whole numbers.
    """
    before = warp_labels(moving_labels, fixed_labels, sitk.TranslationTransform(3))
    after = warp_labels(moving_labels, fixed_labels, transform)
    result = evaluate_labels(fixed_labels, before, after).to_dict()
    result["volume_error"] = {
        int(label): volume_error(moving_labels, after, int(label))
        for label in np.unique(sitk.GetArrayViewFromImage(moving_labels))
        if label != 0
    }
    return result


def evaluate_landmarks(
    transform: sitk.Transform, fixed_points: np.ndarray, moving_points: np.ndarray
) -> dict[str, Any]:
    """Return the target registration error (mm) of paired landmarks (N, 3) in LPS mm, before and after."""
    result: dict[str, Any] = {"count": len(fixed_points)}
    for stage, stage_transform in (("before", sitk.TranslationTransform(3)), ("after", transform)):
        errors = target_registration_error(stage_transform, fixed_points, moving_points)
        result[f"tre_mm_{stage}"] = {
            "mean": float(errors.mean()),
            "max": float(errors.max()),
            "each": errors.tolist(),
        }
    return result


def check_label_maps(
    fixed_labels: sitk.Image, moving_labels: sitk.Image, fixed: sitk.Image, moving: sitk.Image
) -> None:
    """Check that each label map lies on the grid of its volume and has labels.

    Raises:
        InputError: it does not.
    """
    for labels, image, role in ((fixed_labels, fixed, "fixed"), (moving_labels, moving, "moving")):
        check_same_grid(labels, image, f"{role} label map", role)
        if not sitk.GetArrayViewFromImage(labels).any():
            msg = f"The {role} label map is empty; give one that marks a structure."
            raise InputError(msg)
