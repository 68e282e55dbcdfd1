"""A region in which a volume is deformed; around it the displacement fades to the initial alignment."""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK as sitk
import torch

from ...errors import InputError
from ...evaluation.jacobian import jacobian_determinant
from ...spatial.checks import check_grid
from ...spatial.displacement import displacement_image
from ...spatial.grids import UNIT_CORNERS, WorkingGrid, resample_to_grid
from ...spatial.points import foreground_points, physical_points
from ..preprocessing.prepared_volume import PreparedVolume

_IDENTITY = sitk.TranslationTransform(3)
# Widths of the border in which the displacement fades, tried in turn until nothing folds: times its length there.
_FADES = (3.0, 4.5, 7.0)


def limited_to(region: sitk.Image, fixed: PreparedVolume) -> PreparedVolume:
    """Return the fixed volume with only the foreground that lies in the region.

    Raises:
        InputError: the region is not a 3D mask, or nothing of the patient lies in it.
    """
    check_grid(region, "region")
    inside = sitk.Resample(_mask(region), fixed.foreground, _IDENTITY, sitk.sitkNearestNeighbor, 0)
    foreground = sitk.Cast((fixed.foreground != 0) & (inside != 0), sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(foreground).any():
        msg = (
            "The region shows nothing of the patient, or of the fixed mask, in the fixed volume; check that it lies "
            "in its space, or choose a larger one."
        )
        raise InputError(msg)
    return dataclasses.replace(fixed, foreground=foreground)


def box_of(region: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest corner (3,) of the region along L, P and S, mm."""
    corners = physical_points(region, UNIT_CORNERS - 0.5) - np.asarray(region.GetOrigin())
    points = foreground_points(_mask(region))
    return points.min(0) + corners.min(0), points.max(0) + corners.max(0)


def cells_in(region: sitk.Image, cells: WorkingGrid) -> torch.Tensor:
    """Return which cells lie in the region, (z, y, x).

    Raises:
        InputError: none does.
    """
    inside = torch.from_numpy(resample_to_grid(_mask(region), cells, _IDENTITY, label=True) != 0)
    if not inside.any():
        msg = f"The region is smaller than a cell of the displacement field ({cells.spacing:g} mm); enlarge it."
        raise InputError(msg)
    return inside


def faded_displacement(displacement: torch.Tensor, cells: WorkingGrid, inside: torch.Tensor) -> sitk.Image:
    """Return a displacement as `displacement_image` does, fading from the edge of a region.

    Args:
        displacement: (3, z, y, x) in cells, components (z, y, x).
        cells: the grid of the displacement.
        inside: (z, y, x), the region.
    """
    for fade in _FADES:
        field = displacement_image(displacement, cells, inside, fade)
        if sitk.GetArrayFromImage(jacobian_determinant(field)).min() > 0.0:  # a view would not keep the image alive
            break
    return field


def outside_set_to_nan(image: sitk.Image, region: sitk.Image) -> sitk.Image:
    """Return a map of floats with NaN outside the region."""
    inside = sitk.Resample(_mask(region), image, _IDENTITY, sitk.sitkNearestNeighbor, 0)
    return sitk.Mask(image, inside, float("nan"))


def _mask(region: sitk.Image) -> sitk.Image:
    return sitk.Cast(region != 0, sitk.sitkUInt8)
