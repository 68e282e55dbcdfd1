"""The Jacobian determinant of a displacement field and its summary."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from ..spatial.checks import check_same_grid

SMALLEST_DETERMINANT = 1e-9  # folded voxels are clipped to this before the logarithm
_SLAB = 16  # slices whose Jacobian is computed at once: bounds the memory, not the result


def jacobian_determinant(displacement_field: sitk.Image) -> sitk.Image:
    """Determinant of the spatial Jacobian of x -> x + u(x): local volume change of the mapping.

    1 preserves volume; above 1 a region of the fixed image maps to a larger region of the moving image; 0 or less
    means folding. Derivatives are taken along the index axes (central differences inside, one-sided at the border)
    and converted to mm with the spacing and the direction cosines, so the grid may be oblique, flipped and
    anisotropic. Along an axis with a single voxel u counts as constant.

    Args:
        displacement_field: 3D vector image, u(x) in mm, LPS components, at the voxel centres.

    Returns:
        Float32 image on the same grid, no unit.

    Raises:
        InputError: the image is not a 3D field of three components, or holds a value that is not finite.
    """
    if displacement_field.GetDimension() != 3 or displacement_field.GetNumberOfComponentsPerPixel() != 3:
        msg = (
            f"A displacement field must be a 3D image with 3 components, but this one has "
            f"{displacement_field.GetDimension()} dimensions and "
            f"{displacement_field.GetNumberOfComponentsPerPixel()} components; give a field in mm, LPS."
        )
        raise InputError(msg)
    field = sitk.GetArrayViewFromImage(displacement_field)  # (Z, Y, X, 3)
    index_to_mm = _index_to_mm(displacement_field)
    determinant = np.empty(field.shape[:3], dtype=np.float32)
    depth = field.shape[0]
    for start in range(0, depth, _SLAB):
        stop = min(start + _SLAB, depth)
        first, last = max(start - 1, 0), min(stop + 1, depth)  # one slice of context on each side
        slab = _determinant_of_slab(np.asarray(field[first:last], dtype=np.float64), index_to_mm)
        determinant[start:stop] = slab[start - first : stop - first]
    if not np.isfinite(determinant).all():
        msg = "The displacement field has values that are not finite; compute or export it again."
        raise InputError(msg)
    image = sitk.GetImageFromArray(determinant)
    image.CopyInformation(displacement_field)
    return image


def jacobian_summary(det: sitk.Image, mask: sitk.Image | None = None) -> dict[str, float]:
    """Plausibility figures of a deformation.

    Args:
        det: Jacobian determinant, see ``jacobian_determinant``.
        mask: 3D image on the same grid, nonzero in the region to measure; the whole grid if not given.

    Returns:
        ``folded_percent`` (share of voxels with a determinant of 0 or less, in %), ``sd_log`` (standard
        deviation of the natural logarithm, determinants clipped from below at 1e-9 so that a folded voxel
        counts as extreme rather than undefined), ``min``, ``max``, ``mean`` and ``voxels`` (their number).

    Raises:
        InputError: the grids differ, the mask is empty, or a determinant is not finite.
    """
    values = sitk.GetArrayViewFromImage(det)
    if mask is not None:
        check_same_grid(mask, det, "mask", "Jacobian determinant")
        values = values[sitk.GetArrayViewFromImage(mask) != 0]
    values = np.asarray(values, dtype=np.float64).ravel()
    if values.size == 0:
        msg = "The mask is empty; give a mask with at least one voxel inside, or none."
        raise InputError(msg)
    if not np.isfinite(values).all():
        msg = "The Jacobian determinant has values that are not finite; compute it again from the field."
        raise InputError(msg)
    return {
        "folded_percent": 100.0 * float(np.mean(values <= 0.0)),
        "sd_log": float(np.std(np.log(np.maximum(values, SMALLEST_DETERMINANT)))),
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "voxels": float(values.size),
    }


def _index_to_mm(image: sitk.Image) -> NDArray[np.float64]:
    """(3, 3) matrix of the step in LPS mm of one index along x, y, z (its columns)."""
    return np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())


def _determinant_of_slab(field: NDArray[np.float64], index_to_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jacobian determinant of x + u(x) on a slab.

    Args:
        field: (Z, Y, X, 3) displacement in mm, LPS.
        index_to_mm: (3, 3) step in mm of one index along x, y, z, as columns.

    Returns:
        (Z, Y, X) determinants.
    """
    # A change of basis leaves the determinant as it is: the displacement is counted in steps of the index axes.
    steps = np.tensordot(np.linalg.inv(index_to_mm), np.moveaxis(field, -1, 0), 1)
    columns = [
        np.gradient(steps, axis=axis) if steps.shape[axis] > 1 else np.zeros_like(steps) for axis in (3, 2, 1)
    ]  # by x, y, z
    for component, column in enumerate(columns):
        column[component] += 1.0
    (a, d, g), (b, e, h), (c, f, i) = columns
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
