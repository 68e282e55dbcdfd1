"""Agreement of labels and landmarks before and after a registration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..io.landmarks import Landmarks
from ..io.paired_labels import PairedLabels
from ..spatial.checks import check_same_grid
from ..spatial.warping import warp_labels
from .labels import Evaluation, LabelAgreement, evaluate_labels
from .landmarks import target_registration_error
from .overlap import volume_error, volumes_cm3

# A landmark this near to a point that drove is that point.
_SAME_POINT_MM = 1.0


def evaluate(
    transform: sitk.Transform,
    labels: PairedLabels | None,
    landmarks: tuple[Landmarks, Landmarks] | None,
    driving: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the agreement of the given labels and landmarks before and after registration.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        labels: the structures of both sides.
        landmarks: fixed and moving landmarks; entry i of one corresponds to entry i of the other.
        driving: what drove the registration, from its record. Landmarks that did are left out, and labels that did
            are marked, since their agreement says nothing about the accuracy elsewhere.
    """
    evaluation: dict[str, Any] = {}
    drove = driving or {}
    if labels is not None:
        evaluation["labels"] = evaluate_paired_labels(transform, labels)
        names = {structure["name"] for structure in drove.get("structures", ())}
        for row in evaluation["labels"]["labels"]:
            if row.get("name", f"label {row['label']}") in names:
                row["drove"] = True
    if landmarks is not None:
        fixed, moving = landmarks
        independent = independent_landmarks(drove, fixed.points)
        if not independent.all():
            evaluation["landmarks_that_drove"] = int(np.count_nonzero(~independent))
        if independent.any():
            points = fixed.points[independent], moving.points[independent]
            evaluation["landmarks"] = evaluate_landmarks(transform, *points)
    return evaluation


def independent_landmarks(driving: Mapping[str, Any], fixed_points: np.ndarray) -> np.ndarray:
    """Return which fixed landmarks are none of the points that drove the registration, (N,) bool.

    Args:
        driving: what drove the registration, from its record.
        fixed_points: (N, 3) in LPS mm.
    """
    places = np.array([point["fixed"] for point in (driving.get("points") or {}).get("drove", ())]).reshape(-1, 3)
    distances = np.linalg.norm(fixed_points[:, None] - places, axis=2)
    return (distances > _SAME_POINT_MM).all(axis=1)


def evaluate_label_maps(
    transform: sitk.Transform, fixed_labels: sitk.Image, moving_labels: sitk.Image
) -> dict[str, Any]:
    """Compare label maps before and after applying the transform.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed_labels: label map in fixed space, background 0.
        moving_labels: label map in moving space, on any grid.

    Returns:
        Dice and HD95 (mm) for each label, before and after; `volumes_cm3` of the label as drawn in both images, whose
        difference is its growth or shrinkage; and `volume_error`, how much warping alone changed the moving label
        (fraction, paper's V_epsilon).

    Raises:
        InputError: a label map does not hold whole numbers.
    """
    return _evaluated(transform, [(fixed_labels, moving_labels)])


def evaluate_paired_labels(transform: sitk.Transform, paired: PairedLabels) -> dict[str, Any]:
    """Compare segmentations like `evaluate_label_maps`, overlapping segments separately.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        paired: the structures of both sides.

    Returns:
        The same figures, with names if structures were paired by name.

    Raises:
        InputError: a label map does not hold whole numbers.
    """
    result = _evaluated(transform, paired.pairs)
    names = {value: name for name, value in paired.values.items()}
    if names:
        for row in result["labels"]:
            row["name"] = names[row["label"]]
    return result


def _evaluated(transform: sitk.Transform, pairs: Iterable[tuple[sitk.Image, sitk.Image]]) -> dict[str, Any]:
    rows: list[LabelAgreement] = []
    changes: dict[int, float] = {}
    volumes: dict[int, dict[str, float]] = {}
    for fixed, moving in pairs:
        before = warp_labels(moving, fixed, sitk.TranslationTransform(3))
        after = warp_labels(moving, fixed, transform)
        rows += evaluate_labels(fixed, before, after).labels
        changes |= {
            int(label): volume_error(moving, after, int(label))
            for label in np.unique(sitk.GetArrayViewFromImage(moving))
            if label != 0
        }
        for side, image in (("moving", moving), ("fixed", fixed)):
            for label, volume in volumes_cm3(image, f"{side} label map").items():
                volumes.setdefault(label, {})[side] = volume
    return {**Evaluation(tuple(rows)).to_dict(), "volumes_cm3": volumes, "volume_error": changes}


def evaluate_landmarks(
    transform: sitk.Transform, fixed_points: np.ndarray, moving_points: np.ndarray
) -> dict[str, Any]:
    """Measure the target registration error of paired landmarks, before and after.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed_points: (N, 3) in LPS mm.
        moving_points: (N, 3) in LPS mm; point i corresponds to fixed point i.

    Returns:
        Their number, and the mean, maximum and individual errors in mm, before and after.

    Raises:
        InputError: there are no points, or the numbers differ.
    """
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
    """Check that each label map lies on the grid of its volume.

    Raises:
        InputError: it does not.
    """
    for labels, image, role in ((fixed_labels, fixed, "fixed"), (moving_labels, moving, "moving")):
        check_same_grid(labels, image, f"{role} label map", role)
