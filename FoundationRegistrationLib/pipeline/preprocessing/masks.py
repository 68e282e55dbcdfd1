"""Masks of the user, and masks on other grids."""

from __future__ import annotations

import SimpleITK as sitk

from ...errors import InputError
from ...spatial.checks import check_same_grid


def checked_mask(mask: sitk.Image, image: sitk.Image, role: str) -> sitk.Image:
    """Return a user's mask as uint8 0 or 1.

    Raises:
        InputError: it is on another grid or selects nothing.
    """
    check_same_grid(mask, image, f"{role} mask", role)
    binary = sitk.Cast(mask != 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(binary).any():
        msg = f"The {role} mask is empty; choose a mask that selects part of the volume."
        raise InputError(msg)
    return binary


def mask_on_grid_of(mask: sitk.Image, image: sitk.Image) -> sitk.Image | None:
    """Return a mask on another grid, None if it falls between its voxels, as a single slice may."""
    found = sitk.Resample(mask, image, sitk.TranslationTransform(3), sitk.sitkNearestNeighbor, 0)
    return found if sitk.GetArrayViewFromImage(found).any() else None
