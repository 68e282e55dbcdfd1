"""Masks of the user, and masks on other grids."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...io.volumes import whole_numbers
from ...spatial.checks import check_same_grid
from .modality import sampled_values

_MOST_VALUES = 500  # atlases have about 200 structures


def checked_mask(mask: sitk.Image, image: sitk.Image, role: str) -> sitk.Image:
    """Return a user's mask as uint8 0 or 1.

    Raises:
        InputError: it is on another grid, selects nothing, holds fractions or numbers below 0, or looks like an
            intensity image.
    """
    check_same_grid(mask, image, f"{role} mask", role)
    mask = whole_numbers(mask, f"The {role} mask")
    values = sitk.GetArrayViewFromImage(mask)
    if values.min() < 0:
        msg = f"The {role} mask holds numbers below 0, such as {values.min()}; give 0 outside and 1 inside."
        raise InputError(msg)
    if len(np.unique(sampled_values(mask))) > _MOST_VALUES:
        msg = (
            f"The {role} mask holds more than {_MOST_VALUES} different values, like an intensity image; give 0 "
            "outside and 1 inside."
        )
        raise InputError(msg)
    binary = sitk.Cast(mask != 0, sitk.sitkUInt8)
    if not values.any():
        msg = f"The {role} mask is empty; choose a mask that selects part of the volume."
        raise InputError(msg)
    return binary


def mask_on_grid_of(mask: sitk.Image, image: sitk.Image) -> sitk.Image | None:
    """Return a mask on another grid, None if it falls between its voxels, as a single slice may."""
    found = sitk.Resample(mask, image, sitk.TranslationTransform(3), sitk.sitkNearestNeighbor, 0)
    return found if sitk.GetArrayViewFromImage(found).any() else None
