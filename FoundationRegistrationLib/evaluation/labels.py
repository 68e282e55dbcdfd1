"""All labels of a pair before and after a registration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..spatial.checks import check_same_grid
from .overlap import dice, hausdorff95, label_array, label_counts


@dataclass(frozen=True)
class LabelAgreement:
    """One label before and after registration.

    If the label is missing on one side, Dice is 0 and the distance infinite; if on both, both are NaN.
    """

    label: int
    dice_before: float
    dice_after: float
    hausdorff95_before: float
    hausdorff95_after: float

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON: mm, and None for what is not finite."""
        return {
            "label": self.label,
            "dice_before": _finite_or_none(self.dice_before),
            "dice_after": _finite_or_none(self.dice_after),
            "hausdorff95_mm_before": _finite_or_none(self.hausdorff95_before),
            "hausdorff95_mm_after": _finite_or_none(self.hausdorff95_after),
        }


@dataclass(frozen=True)
class Evaluation:
    """Agreement of the labels before and after registration.

    Means are over the labels with finite values both before and after, so that both refer to the same structures;
    ``missing_before`` and ``missing_after`` list the labels present on one side only.
    """

    labels: tuple[LabelAgreement, ...]

    @property
    def mean_dice_before(self) -> float:
        """Mean Dice before registration, NaN without labels."""
        return self._means("dice")[0]

    @property
    def mean_dice_after(self) -> float:
        """Mean Dice after registration, NaN without labels."""
        return self._means("dice")[1]

    @property
    def mean_hausdorff95_before(self) -> float:
        """Mean HD95 before registration in mm, NaN without a label on both sides."""
        return self._means("hausdorff95")[0]

    @property
    def mean_hausdorff95_after(self) -> float:
        """Mean HD95 after registration in mm, NaN without a label on both sides."""
        return self._means("hausdorff95")[1]

    @property
    def missing_before(self) -> tuple[int, ...]:
        """Labels that only one of the two images had before registration."""
        return tuple(row.label for row in self.labels if math.isinf(row.hausdorff95_before))

    @property
    def missing_after(self) -> tuple[int, ...]:
        """Labels that only one of the two images has after registration."""
        return tuple(row.label for row in self.labels if math.isinf(row.hausdorff95_after))

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON: mm, and None for what is not finite."""
        return {
            "mean_dice_before": _finite_or_none(self.mean_dice_before),
            "mean_dice_after": _finite_or_none(self.mean_dice_after),
            "mean_hausdorff95_mm_before": _finite_or_none(self.mean_hausdorff95_before),
            "mean_hausdorff95_mm_after": _finite_or_none(self.mean_hausdorff95_after),
            "missing_before": list(self.missing_before),
            "missing_after": list(self.missing_after),
            "labels": [row.to_dict() for row in self.labels],
        }

    def _means(self, measure: str) -> tuple[float, float]:
        """Means before and after over the labels measured both times."""
        pairs = [(getattr(row, f"{measure}_before"), getattr(row, f"{measure}_after")) for row in self.labels]
        both = [pair for pair in pairs if math.isfinite(pair[0]) and math.isfinite(pair[1])]
        if not both:
            return math.nan, math.nan
        before, after = np.mean(both, axis=0)
        return float(before), float(after)


def evaluate_labels(
    fixed_labels: sitk.Image, moving_labels_before: sitk.Image, moving_labels_after: sitk.Image
) -> Evaluation:
    """Compare the moving labels with the fixed labels before and after registration.

    Args:
        fixed_labels: 3D label image in the fixed space, background 0.
        moving_labels_before: moving labels resampled onto that grid without the deformation.
        moving_labels_after: moving labels warped onto that grid by the registration.

    Returns:
        Dice and HD95 of every non-zero label of the three images, and their means.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    found: set[int] = set()
    for image, name in (
        (moving_labels_before, "moving labels before registration"),
        (moving_labels_after, "moving labels after registration"),
    ):
        check_same_grid(image, fixed_labels, name, "fixed label")
        found.update(label_counts(label_array(image, name)))
    found.update(label_counts(label_array(fixed_labels, "fixed labels")))
    dice_before = dice(fixed_labels, moving_labels_before, found)
    dice_after = dice(fixed_labels, moving_labels_after, found)
    distance_before = hausdorff95(fixed_labels, moving_labels_before, found)
    distance_after = hausdorff95(fixed_labels, moving_labels_after, found)
    return Evaluation(
        tuple(
            LabelAgreement(
                label, dice_before[label], dice_after[label], distance_before[label], distance_after[label]
            )
            for label in sorted(found)
        )
    )


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
