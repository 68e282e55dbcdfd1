"""What a transform is worth: overlap, distances, points, lesion volume, folding."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant, jacobian_summary
from FoundationRegistrationLib.evaluation.landmarks import target_registration_error
from FoundationRegistrationLib.evaluation.overlap import dice, hausdorff95, mean_over_labels
from FoundationRegistrationLib.spatial.warping import warp_labels

from .case import Case

_LESION_MARGIN_VOXELS = 3
_LESION_REFINEMENT = 3.0


def measure(case: Case, start: sitk.AffineTransform, transform: sitk.Transform) -> dict[str, Any]:
    """Measure a transform from fixed to moving points against what is known of a case.

    Args:
        case: the pair and its truth.
        start: the affine that the method began with; transform(x) = start(x + u(x)) defines its deformable part u.
        transform: what the method gave.

    Returns:
        "dice" (0 to 1) and "hausdorff95_mm" by structure, "jacobian" of x + u(x) inside the body, and, where the
        case knows them, "tre_mm", "lesion" and "change_seen". Tissue may swell and shrink between two positions, so
        "lesion" also tells how its volume compares with what the true motion makes of it.
    """
    found: dict[str, Any] = {"dice": {}, "hausdorff95_mm": {}}
    for name, fixed in case.fixed_labels.items():
        warped = warp_labels(case.moving_labels[name], fixed, transform)
        found["dice"][name] = mean_over_labels(dice(fixed, warped))
        found["hausdorff95_mm"][name] = mean_over_labels(hausdorff95(fixed, warped))
    if case.fixed_points is not None and case.moving_points is not None:
        errors = target_registration_error(transform, case.fixed_points, case.moving_points)
        found["tre_mm"] = {"mean": float(errors.mean()), "95 %": float(np.percentile(errors, 95.0))}
    if case.moving_lesion is not None:
        found["lesion"] = lesion_volumes(case.moving_lesion, case.fixed, start, transform)
        if case.true_transform is not None:
            true = lesion_volumes(case.moving_lesion, case.fixed, start, case.true_transform)["warped_mm3"]
            found["lesion"]["true_warped_mm3"] = true
            found["lesion"]["against_truth_percent"] = 100.0 * (found["lesion"]["warped_mm3"] / true - 1.0)
    if case.change is not None and case.true_transform is not None:
        found["change_seen"] = _change(case, transform) / _change(case, case.true_transform)
    found["jacobian"] = jacobian_summary(
        jacobian_determinant(deformable_part(start, transform, case.body)), case.body
    )
    return found


def deformable_part(start: sitk.AffineTransform, transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    """Return u in mm, LPS, at the voxels of a grid, where transform(x) = start(x + u(x))."""
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(grid)
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return to_field.Execute(sitk.CompositeTransform([start.GetInverse(), transform]))


def lesion_volumes(
    lesion: sitk.Image, fixed: sitk.Image, start: sitk.Transform, transform: sitk.Transform
) -> dict[str, float]:
    """Return the volume of a moving lesion in mm^3 before and after it is carried to the fixed volume.

    Returns:
        "own_mm3", "warped_mm3", and the changes of the carried lesion against its own volume and against the one
        that the start alone gives it, in percent: "change_percent" and "change_after_start_percent".
    """
    own = float(np.count_nonzero(sitk.GetArrayViewFromImage(lesion)) * np.prod(lesion.GetSpacing()))
    started, warped = (_carried_volume(lesion, fixed, each) for each in (start, transform))
    return {
        "own_mm3": own,
        "warped_mm3": warped,
        "change_percent": 100.0 * (warped / own - 1.0),
        "change_after_start_percent": 100.0 * (warped / started - 1.0) if started else np.nan,
    }


def _carried_volume(lesion: sitk.Image, fixed: sitk.Image, transform: sitk.Transform) -> float:
    """Integrate lesion(transform(x)) over fixed space, mm^3.

    The mask is interpolated linearly and summed on a fine grid around the carried lesion: a threshold would change
    the volume of a small lesion even where nothing moves.
    """
    share = sitk.Cast(lesion != 0, sitk.sitkFloat32)
    coarse = sitk.GetArrayFromImage(sitk.Resample(share, fixed, transform, sitk.sitkLinear, 0.0))
    inside = np.argwhere(coarse > 0)[:, ::-1]
    if not len(inside):
        return 0.0
    low, high = inside.min(0) - _LESION_MARGIN_VOXELS, inside.max(0) + _LESION_MARGIN_VOXELS
    spacing = np.array(fixed.GetSpacing())
    step = np.minimum(spacing, min(lesion.GetSpacing())) / _LESION_REFINEMENT
    fine = sitk.Resample(
        share,
        np.ceil((high - low) * spacing / step).astype(int).tolist(),
        transform,
        sitk.sitkLinear,
        fixed.TransformContinuousIndexToPhysicalPoint(low.astype(float).tolist()),
        step.tolist(),
        fixed.GetDirection(),
    )
    return float(sitk.GetArrayViewFromImage(fine).sum(dtype=float) * np.prod(step))


def _change(case: Case, transform: sitk.Transform) -> float:
    """Return how much brighter or darker the changed tissue is in the warped volume, in SD of the body."""
    warped = sitk.Resample(case.moving, case.fixed, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    body, changed = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (case.body, case.change))
    scaled = []
    for volume in (warped, case.fixed):
        values = sitk.GetArrayViewFromImage(volume)
        scaled.append((values[changed] - values[body].mean()) / values[body].std())
    return float(np.abs(scaled[0] - scaled[1]).mean())
