"""Figures of a finished registration: expected error and inverse consistency error."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..convex_adam import ConvexAdamResult
from ..convex_adam.expected_error import expected_error
from ..spatial.grids import WorkingGrid
from ..spatial.warping import round_trip_errors

_ROUND_TRIP_POINTS = 4000
_LARGE_ERROR_MM = 5.0


def mask_on_grid_of(mask: sitk.Image, image: sitk.Image) -> sitk.Image | None:
    """Return a mask on another grid, None if it falls between its voxels, as a single slice may."""
    found = sitk.Resample(mask, image, sitk.TranslationTransform(3), sitk.sitkNearestNeighbor, 0)
    return found if sitk.GetArrayViewFromImage(found).any() else None


def expected_error_map(found: ConvexAdamResult, cells: WorkingGrid, field: sitk.Image) -> sitk.Image:
    """Return the expected error in mm on the grid of the field; it is unknown in the border beyond the cells."""
    error = cells.image(expected_error(found.measures, cells.spacing).cpu().numpy())
    return sitk.Resample(error, field, sitk.TranslationTransform(3), sitk.sitkNearestNeighbor, np.nan)


def expected_error_summary(expected: sitk.Image, mask: sitk.Image | None) -> dict[str, float | None]:
    """Return figures of the expected error over the anatomy, None if all of it is unknown."""
    values = sitk.GetArrayViewFromImage(expected)
    if mask is not None:
        values = values[sitk.GetArrayViewFromImage(mask) != 0]
    is_known = ~np.isnan(values)
    known = values[is_known]
    if not known.size:
        return {"median_mm": None, "percentile_95_mm": None, "above_5_mm_percent": 0.0, "not_known_percent": 100.0}
    return {
        "median_mm": float(np.median(known)),
        "percentile_95_mm": float(np.percentile(known, 95)),
        "above_5_mm_percent": 100.0 * float(np.mean(is_known & (values > _LARGE_ERROR_MM))),
        "not_known_percent": 100.0 * float(np.mean(~is_known)),
    }


def inverse_error(transform: sitk.Transform, inverse: sitk.Transform, foreground: sitk.Image) -> dict[str, float]:
    """Return the inverse consistency error over points of the fixed foreground, mm."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(foreground) != 0)[:, ::-1]
    indices = indices[:: max(1, len(indices) // _ROUND_TRIP_POINTS)]
    points = [foreground.TransformIndexToPhysicalPoint(index) for index in indices.tolist()]
    errors = round_trip_errors(transform, inverse, np.array(points))
    return {"mean": float(errors.mean()), "max": float(errors.max())}
