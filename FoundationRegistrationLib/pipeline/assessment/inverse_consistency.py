"""How far a transform and its inverse, one after the other, lead away from where they started."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ...spatial.warping import round_trip_errors

_ROUND_TRIP_POINTS = 4000


def inverse_error(transform: sitk.Transform, inverse: sitk.Transform, foreground: sitk.Image) -> dict[str, float]:
    """Return the inverse consistency error over points of the fixed foreground, mm."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(foreground) != 0)[:, ::-1]
    indices = indices[:: max(1, len(indices) // _ROUND_TRIP_POINTS)]
    points = [foreground.TransformIndexToPhysicalPoint(index) for index in indices.tolist()]
    errors = round_trip_errors(transform, inverse, np.array(points))
    return {"mean": float(errors.mean()), "max": float(errors.max())}
