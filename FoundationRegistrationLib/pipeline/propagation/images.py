"""Propagation of volumes by a finished registration."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...io.units import set_units, units_of
from ...spatial.checks import check_grid
from ...spatial.warping import is_measured, warp_image
from .outside import refuse_apart

_LITTLE_COVERED = 0.5


def propagate_image(
    image: sitk.Image, reference: sitk.Image, transform: sitk.Transform, interpolation: str, messages: list[str]
) -> sitk.Image:
    """Resample a volume onto the grid of a reference.

    Args:
        image: 3D volume of numbers, colours, vectors or complex numbers.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the image, LPS mm.
        interpolation: see `warp_image`.
        messages: warnings are appended.

    Raises:
        InputError: one of the two is not a 3D volume, or they do not overlap.
    """
    check_grid(reference, "reference", any_voxels=True)
    check_grid(image, "given", any_voxels=True)
    _check_finite(image)
    covered = _covered_share(image, reference, transform)
    if covered == 0.0:
        refuse_apart("volume")
    if covered < _LITTLE_COVERED:
        messages.append(
            f"The given volume covers only {100.0 * covered:.1f} % of the reference; the rest is filled with its "
            "minimum."
        )
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        messages.append(
            f"The {components} components of each voxel were resampled independently; vectors such as displacements "
            "or gradients were not reoriented."
        )
    result = warp_image(image, reference, transform, interpolation)
    set_units(result, units_of(image))
    if _is_uniform(result) and not _is_uniform(image):
        messages.insert(0, "The result is empty: only background of the given volume lies within the reference.")
    return result


def _check_finite(image: sitk.Image) -> None:
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind in "fc" and not is_measured(values.real).any():
        msg = "The given volume has no measured value (all NaN, infinite or padding); export it again."
        raise InputError(msg)


def _is_uniform(image: sitk.Image) -> bool:
    values = sitk.GetArrayViewFromImage(image)
    first = values[(0, 0, 0)]
    return bool((values == first).all())


def _covered_share(image: sitk.Image, reference: sitk.Image, transform: sitk.Transform) -> float:
    """Return the fraction of the reference's voxels in the field of view of an image."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    inside = sitk.Resample(ones, reference, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return float(np.mean(sitk.GetArrayViewFromImage(inside)))
