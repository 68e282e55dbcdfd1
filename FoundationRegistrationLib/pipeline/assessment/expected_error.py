"""Expected error of a registration, in mm, from predictors that need no truth.

Predictors of the optimisation (`convex_adam/error_predictors.py`) and the agreement of fine structure around a point
are mapped to an error by a regression on pairs with known displacement (`fitted_error.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
import torch

from ...convex_adam import ConvexAdamResult
from ...convex_adam.error_predictors import MEASURES
from ...spatial.grids import WorkingGrid
from . import fitted_error
from .fine_structure import FineStructure

# In the order of the components of `RegistrationResult.error_predictors`.
PREDICTORS = (*MEASURES, "structure")
LARGEST_MM = 50.0  # of the predictions
_LARGE_ERROR_MM = 5.0
_IDENTITY = sitk.TranslationTransform(3)
NOT_EXPECTED: Mapping[str, float | None] = dict.fromkeys(
    ("median_mm", "spread_mm", "percentile_95_mm", "above_5_mm_percent", "not_known_percent")
)
"""The figures of a linear transform: the model is fitted on deformable registrations."""


def predictors_of(found: ConvexAdamResult, cells: WorkingGrid, structure: FineStructure | None) -> sitk.Image:
    """Return the predictors as a vector image on the grid of the cells, NaN where nothing was compared.

    The last one is the logarithm of how many times better than by chance fine structure agrees around the cell; 0 if
    it could not be measured.
    """
    measures = found.measures.permute(1, 2, 3, 0).cpu().numpy()
    ratio = np.ones(measures.shape[:3], np.float32)
    if structure is not None:
        grid = cells.image(ratio)
        sampled = sitk.Resample(
            structure.above_chance_nearby, grid, _IDENTITY, sitk.sitkLinear, structure.above_chance
        )
        ratio = sitk.GetArrayFromImage(sampled)
    columns = [measures, np.log(np.maximum(ratio, 0.1))[..., None].astype(measures.dtype)]
    return cells.image(np.concatenate(columns, axis=-1), is_vector=True)


def expected_error(predictors: torch.Tensor, cell_mm: float) -> torch.Tensor:
    """Return the expected error for given predictors, in mm.

    The model does not extrapolate: predictors are clamped to the range of the fit.

    Args:
        predictors: (3, ...) in the order of `PREDICTORS`.
        cell_mm: cell size.

    Returns:
        (...), at most `LARGEST_MM`; NaN where a predictor is NaN.
    """
    exponent = torch.full_like(predictors[0], fitted_error.INTERCEPT)
    for name, predictor in zip(PREDICTORS, predictors, strict=True):
        coefficient, low, high = fitted_error.COEFFICIENTS[name]
        exponent += coefficient * predictor.clamp(low, high)
    return (cell_mm * exponent.exp()).clamp(max=LARGEST_MM)


def expected_error_map(predictors: sitk.Image, field: sitk.Image) -> sitk.Image:
    """Return the expected error in mm on the grid of the field; it is unknown in the border beyond the cells."""
    values = torch.from_numpy(sitk.GetArrayFromImage(predictors)).movedim(-1, 0)
    error = sitk.GetImageFromArray(expected_error(values, predictors.GetSpacing()[0]).numpy())
    error.CopyInformation(predictors)
    return sitk.Resample(error, field, _IDENTITY, sitk.sitkNearestNeighbor, np.nan)


def expected_error_summary(expected: sitk.Image, mask: sitk.Image | None) -> dict[str, float | None]:
    """Return figures of the expected error over the anatomy, None if all of it is unknown.

    `median_mm` is the median over the anatomy, `spread_mm` the error below which 90 % of the true errors are
    expected in places with that median.
    """
    values = sitk.GetArrayViewFromImage(expected)
    if mask is not None:
        values = values[sitk.GetArrayViewFromImage(mask) != 0]
    is_known = ~np.isnan(values)
    known = values[is_known]
    median = float(np.median(known)) if known.size else None
    return {
        "median_mm": median,
        "spread_mm": None if median is None else median * fitted_error.SPREAD,
        "percentile_95_mm": float(np.percentile(known, 95)) if known.size else None,
        "above_5_mm_percent": 100.0 * float(np.mean(is_known & (values > _LARGE_ERROR_MM))),
        "not_known_percent": 100.0 * float(np.mean(~is_known)),
    }
