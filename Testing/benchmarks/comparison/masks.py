"""Where a registration is to look: the mask that is given to every program which takes one."""

from __future__ import annotations

import SimpleITK as sitk

from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare

_MARGIN_MM = 10.0  # so that the skin, the strongest edge of all, and some air beyond it are seen


def fixed_mask(fixed: sitk.Image) -> sitk.Image:
    """Return the foreground that ours finds by itself in a fixed volume, and 10 mm around it: uint8, on its grid."""
    found = prepare(fixed, "auto", "fixed").foreground
    mask = sitk.Resample(found, fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    distance = sitk.SignedMaurerDistanceMap(mask != 0, squaredDistance=False, useImageSpacing=True)
    return sitk.Cast(distance <= _MARGIN_MM, sitk.sitkUInt8)
