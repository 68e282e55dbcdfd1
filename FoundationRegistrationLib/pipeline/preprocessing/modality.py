"""Guessing the modality (CT, PET or MR) from the values."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ...spatial.warping import is_measured
from .foreground import half_li_threshold

# Darker than any tissue: lower values are padding by scanners and programs.
CT_PADDING_BELOW = -1500.0
# Fraction of the padding that has a single value; the rest comes from interpolation at its edge.
_ONE_PADDING = 0.7

_PET_LEAST_SPACING_MM = 1.9
_MEDIAN_SUV_OF_BODY = 0.7


def sampled_values(image: sitk.Image) -> np.ndarray:
    """Return up to about a million measured values of a volume, float32."""
    values = sitk.GetArrayViewFromImage(image).ravel()
    some = values[:: max(1, values.size // 1_000_000)]
    known = some[is_measured(some)]
    return (known if known.size else values[is_measured(values)]).astype(np.float32)


def value_of_one_suv(body: np.ndarray) -> float:
    """Return about which value is SUV 1 in a PET of other units, from its positive values inside the body."""
    return float(np.median(body)) / _MEDIAN_SUV_OF_BODY


def guess_modality(image: sitk.Image) -> str:
    """Guess "ct", "pet" or "mr" from the values of a volume, ignoring NaN and infinities.

    CT has air near -1000 HU in a fair fraction of the voxels, below it only a single padding value, and little
    between air and soft tissue, where signed MR (inversion recovery, phase, differences) has many values. PET is
    non-negative on coarse voxels, with a few far above the rest of the body; anything else is taken as MR.
    """
    values = sampled_values(image)
    if _is_ct(values):
        return "ct"
    positive = values[values > 0]
    if values.min() >= 0.0 and positive.size and min(image.GetSpacing()) >= _PET_LEAST_SPACING_MM:
        body = positive[positive > half_li_threshold(positive)]
        if body.size and np.percentile(body, 99.9) > 8.0 * np.median(body):
            return "pet"
    return "mr"


def _is_ct(values: np.ndarray) -> bool:
    below = values[values <= CT_PADDING_BELOW]
    if below.size:
        _, counts = np.unique(below, return_counts=True)
        if counts.max() < _ONE_PADDING * below.size:
            return False
        values = values[values > CT_PADDING_BELOW]
    if not values.size or np.mean(values < -300.0) <= 0.02:
        return False
    if values.min() > -1000.0 and np.mean(values == values.min()) > 0.02:  # clipped within the range of air
        return bool(values.min() <= -500.0)
    air, between, tissue = (np.mean((values >= low) & (values < low + 300.0)) for low in (-1100.0, -600.0, -200.0))
    lung = np.mean((values >= -900.0) & (values < -600.0))
    return bool(max(air, lung) > 2.0 * between and tissue > 2.0 * between)


def may_be_ct(values: np.ndarray) -> bool:
    """Whether values look like soft tissue in Hounsfield units: whole numbers around 0, from fat to bone."""
    low, middle, high = np.percentile(values, (2, 50, 95))
    whole = np.array_equal(values, np.rint(values))
    return bool(whole and -1100.0 < low < -50.0 and -150.0 < middle < 150.0 and 50.0 < high < 1000.0)
