"""What a registration is about: the lesion, or the structures that drove it."""

from __future__ import annotations

import functools

import numpy as np
import SimpleITK as sitk

from ..spatial.warping import warp_labels
from .driving import Driving
from .given import GivenVolume


def focus_of(
    fixed: GivenVolume, moving: GivenVolume, driving: Driving, transform: sitk.Transform
) -> sitk.Image | None:
    """Return what pictures of a registration must show, as labels on the grid of the fixed volume.

    Args:
        fixed: the fixed volume with its lesions.
        moving: the moving volume with its lesions.
        driving: structures of both volumes.
        transform: maps fixed points to moving points, LPS mm.

    Returns:
        The largest lesion of the fixed volume or, without, of the registered moving one; else the structures that
        drove; None if nothing of these is given, or nothing of it lies in the fixed volume.
    """
    if fixed.lesion is not None:
        labels = _largest_region(fixed.lesion)
    elif moving.lesion is not None:
        lesions = sitk.Cast(moving.lesion != 0, sitk.sitkUInt8)
        labels = _largest_region(warp_labels(lesions, fixed.image, transform))
    elif driving.structures:
        masks = (warp_labels(pair.fixed, fixed.image, sitk.TranslationTransform(3)) for pair in driving.structures)
        labels = functools.reduce(sitk.Maximum, (mask * number for number, mask in enumerate(masks, start=1)))
    else:
        return None
    return labels if np.any(sitk.GetArrayViewFromImage(labels)) else None


def _largest_region(lesions: sitk.Image) -> sitk.Image:
    return sitk.RelabelComponent(sitk.ConnectedComponent(lesions != 0, True)) == 1
