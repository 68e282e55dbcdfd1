"""The volumes of the initial alignment: isotropic, and at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ...spatial.grids import size_mm, smoothed_for_spacing

_SPACING_MM = 2.5
LEAST_VOXELS = 8  # along each axis
_MOST_VOXELS = 5e7


def resolutions(
    fixed: sitk.Image, moving: sitk.Image, foreground: sitk.Image, factors: Sequence[int]
) -> list[tuple[sitk.Image, sitk.Image, sitk.Image]]:
    """Return fixed volume, mask of the samples and moving volume, coarse to fine."""
    mask = sitk.BinaryDilate(_sampled_as(foreground, fixed), [2, 2, 2])
    pairs = [(_shrunk(fixed, factor), _shrunk(moving, factor)) for factor in factors]
    return [(one, _sampled_as(mask, one), other) for one, other in pairs]


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Return the image with fewer voxels along each axis, but no fewer than are needed."""
    if factor == 1:
        return image
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.5 * factor * np.asarray(image.GetSpacing()))
    return sitk.Shrink(smooth, [min(factor, size // LEAST_VOXELS) for size in image.GetSize()])


def _sampled_as(mask: sitk.Image, image: sitk.Image) -> sitk.Image:
    return sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def isotropic(image: sitk.Image) -> sitk.Image:
    """Return the volume with isotropic voxels in its own orientation, at the alignment's spacing or a coarser one."""
    extent = np.asarray(size_mm(image))
    wanted = max(_SPACING_MM, min(image.GetSpacing()), float(np.cbrt(extent.prod() / _MOST_VOXELS)))
    size = np.maximum(1, np.round(extent / wanted)).astype(int)
    spacing = extent / size
    origin = image.TransformContinuousIndexToPhysicalPoint(
        (0.5 * spacing / np.asarray(image.GetSpacing()) - 0.5).tolist()
    )
    smooth = smoothed_for_spacing(image, wanted)
    return sitk.Resample(
        smooth,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin,
        spacing.tolist(),
        image.GetDirection(),
    )
