"""Checks of input volumes: a single 3D volume, valid geometry, matching grids."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .grids import UNIT_CORNERS, field_of_view
from .points import transform_points
from .warping import is_measured

_ORTHONORMAL_TOLERANCE = 1e-3
# Beyond the range of any scanner: voxel spacing and position of the first voxel.
SPACING_RANGE_MM = (1e-5, 1e3)
FARTHEST_MM = 1e6


def check_volume(image: sitk.Image, role: str, *, any_content: bool = False) -> None:
    """Check that an image is a single 3D scalar volume with valid geometry and some content.

    Args:
        image: the input.
        role: its name in error messages, such as "fixed".
        any_content: also accept a constant or unknown content.

    Raises:
        InputError: it is not.
    """
    check_grid(image, role)
    if any_content:
        return
    values = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(values.dtype, np.floating):
        values = values[is_measured(values)]
        if values.size == 0:
            msg = f"The {role} volume has no measured value (all NaN, infinite or padding); export it again."
            raise InputError(msg)
    if values.min() == values.max():
        msg = f"The {role} volume is empty: every voxel is {values.flat[0]:g}; choose a volume with content."
        raise InputError(msg)


def check_slices(image: sitk.Image, role: str) -> None:
    """Check that a volume has several slices along each axis.

    Raises:
        InputError: it is a single slice.
    """
    if 1 in image.GetSize():
        msg = (
            f"The {role} volume is a single slice, which has no position in a volume to find; give the whole volume. "
            "A dynamic series of one slice is registered by `series`."
        )
        raise InputError(msg)


def check_grid(image: sitk.Image, role: str, *, any_voxels: bool = False) -> None:
    """Check that an image is a single 3D volume with valid geometry, whatever its content.

    Args:
        image: the input.
        role: its name in error messages, such as "fixed".
        any_voxels: also accept colours, vectors and complex numbers.

    Raises:
        InputError: it is not.
    """
    _check_dimensions(image, role, any_voxels=any_voxels)
    _check_space(image, role)


def _check_dimensions(image: sitk.Image, role: str, *, any_voxels: bool = False) -> None:
    dimension = image.GetDimension()
    if dimension == 4:
        msg = f"The {role} volume is 4D ({image.GetSize()[3]} frames); extract one frame first."
        raise InputError(msg)
    if dimension != 3:
        msg = f"The {role} image is {dimension}D; give a 3D volume."
        raise InputError(msg)
    if 0 in image.GetSize():
        msg = f"The {role} volume has no voxels; choose another file."
        raise InputError(msg)
    if any_voxels:
        return
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1 or "vector" in image.GetPixelIDTypeAsString():
        msg = f"The {role} volume has {components} components per voxel; extract one component first."
        raise InputError(msg)
    if "complex" in image.GetPixelIDTypeAsString():
        msg = f"The {role} volume is complex; give its magnitude."
        raise InputError(msg)


def _check_space(image: sitk.Image, role: str) -> None:
    spacing = np.array(image.GetSpacing())
    low, high = SPACING_RANGE_MM
    if not np.all((spacing >= low) & (spacing <= high)):
        sizes = " x ".join(f"{value:g}" for value in spacing)
        msg = f"The {role} volume has a voxel spacing of {sizes} mm; correct its header."
        raise InputError(msg)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    error = np.abs(direction.T @ direction - np.eye(3)).max()
    if not error < _ORTHONORMAL_TOLERANCE:
        msg = f"The {role} volume has axes that are not perpendicular unit vectors; resample it to a proper grid."
        raise InputError(msg)
    if not np.all(np.abs(image.GetOrigin()) <= FARTHEST_MM):
        place = ", ".join(f"{value:g}" for value in image.GetOrigin())
        msg = (
            f"The {role} volume has its first voxel at ({place}) mm, which is not a plausible position; correct its "
            "header."
        )
        raise InputError(msg)


def check_same_grid(mask: sitk.Image, image: sitk.Image, mask_role: str, image_role: str) -> None:
    """Check that a mask or label map is on the voxel grid of its volume (within a hundredth of a voxel).

    Raises:
        InputError: the grids differ.
    """
    _check_dimensions(mask, mask_role)
    if not on_same_grid(mask, image):
        msg = f"The {mask_role} does not lie on the grid of the {image_role} volume; resample it onto that grid."
        raise InputError(msg)


def on_same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Return whether two volumes have the same voxels in space (within a hundredth of a voxel)."""
    if one.GetSize() != other.GetSize():
        return False
    size = np.array(one.GetSize())
    corners = [tuple(int(v) for v in corner * (size - 1)) for corner in UNIT_CORNERS]
    places = (np.array([image.TransformIndexToPhysicalPoint(each) for each in corners]) for image in (one, other))
    ours, theirs = places
    return bool(np.abs(ours - theirs).max() <= 0.01 * max(other.GetSpacing()))


def check_overlap(fixed: sitk.Image, moving: sitk.Image, initial: sitk.Transform) -> None:
    """Check that the two volumes overlap after the initial transform.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        initial: maps a fixed point to a moving point, LPS mm.

    Raises:
        InputError: they do not overlap.
    """
    mapped = transform_points(initial, field_of_view(fixed))
    target = field_of_view(moving)
    if np.any(mapped.max(0) <= target.min(0)) or np.any(mapped.min(0) >= target.max(0)):
        gap = np.linalg.norm(mapped.mean(0) - target.mean(0))
        msg = (
            f"The two volumes do not overlap in space (their centres are {gap:.0f} mm apart); "
            "start with --initialization center."
        )
        raise InputError(msg)
