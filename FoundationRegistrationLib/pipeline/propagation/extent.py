"""The grid of a warped volume: that of the reference, or one that covers more or is finer."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...spatial.points import foreground_points, physical_points, transform_points

# Of which volume the field of view is covered: of the one in fixed space, in moving space, or both.
Extent = Literal["fixed", "moving", "union"]
Covered = Literal["reference", "image", "union"]
_STEPS = 9  # points along each edge of a field of view, which a deformable transform bends
_MOST_VOXELS = 1e9
_FINEST_MM = 0.01
_POINTS = 4000


def covers(extent: Extent | None, to: Literal["fixed", "moving"]) -> Covered:
    """Return what the grid of a warped volume covers, for an extent in words of the user.

    Raises:
        InputError: there is no such extent.
    """
    if extent not in (None, "fixed", "moving", "union"):
        msg = f"The extent must be 'fixed', 'moving' or 'union', not {extent!r}."
        raise InputError(msg)
    if extent == "union":
        return "union"
    return "reference" if extent in (None, to) else "image"


def check_spacing(spacing_mm: float | None) -> None:
    """Check that the voxel spacing of a result, if given, is a length.

    Raises:
        InputError: it is not.
    """
    if spacing_mm is not None and not _FINEST_MM <= spacing_mm < np.inf:
        msg = f"The spacing is {spacing_mm:g} mm; it must be at least {_FINEST_MM:g} mm."
        raise InputError(msg)


def output_grid(
    reference: sitk.Image,
    image: sitk.Image,
    inverse: sitk.Transform,
    covered: Covered = "reference",
    spacing_mm: float | None = None,
) -> sitk.Image:
    """Return an image on the grid for a warped volume, along the axes of a reference; its voxels are 0.

    Args:
        reference: gives the axes, and the lattice unless a spacing is given.
        image: the volume to warp.
        inverse: maps a point of the image to a point of the reference, LPS mm.
        covered: the field of view of the reference, that of the warped image, or both.
        spacing_mm: isotropic voxel spacing.

    Raises:
        InputError: the spacing is not a length, or the grid would be too large.
    """
    check_spacing(spacing_mm)
    low, high = np.zeros(3), np.array(reference.GetSize(), dtype=float)  # of voxel edges, in voxels
    if covered != "reference":
        inner, outer = _warped_box(reference, image, inverse)
        low, high = (inner, outer) if covered == "image" else (np.minimum(low, inner), np.maximum(high, outer))
    old = np.array(reference.GetSpacing())
    new = old if spacing_mm is None else np.full(3, spacing_mm)
    size = np.maximum(np.ceil((high - low) * old / new - 1e-6), 1)
    if size.prod() > _MOST_VOXELS:
        msg = (
            f"The warped volume would have {size.prod() / 1e6:.0f} million voxels; give a larger --spacing, or a "
            "smaller --extent."
        )
        raise InputError(msg)
    return grid_along(reference, low, size, new)


def grid_along(reference: sitk.Image, low: np.ndarray, size: np.ndarray, spacing: np.ndarray) -> sitk.Image:
    """Return an image along the axes of a reference; its voxels are 0.

    Args:
        reference: gives the axes.
        low: (3,) lowest voxel edge of the grid, in voxels of the reference from its first voxel edge.
        size: (3,) number of voxels.
        spacing: (3,) of the grid, mm.
    """
    first = low - 0.5 + 0.5 * spacing / np.array(reference.GetSpacing())
    grid = sitk.Image([int(count) for count in size], sitk.sitkUInt8)
    grid.SetSpacing(spacing.tolist())
    grid.SetDirection(reference.GetDirection())
    grid.SetOrigin(physical_points(reference, first[None])[0].tolist())
    return grid


def outside_percent(mask: sitk.Image, grid: sitk.Image, inverse: sitk.Transform) -> float:
    """Return how much of a structure lies outside a grid after warping, in percent.

    Args:
        mask: nonzero in the structure.
        grid: an image on the grid.
        inverse: maps a point of the mask to a point of the grid, LPS mm.
    """
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask) != 0)[:, ::-1]
    indices = indices[:: max(1, len(indices) // _POINTS)]
    points = transform_points(inverse, physical_points(mask, indices))
    places = _indices(grid, points) + 0.5
    inside = ((places >= 0) & (places <= grid.GetSize())).all(1)
    return 100.0 * float(np.mean(~inside)) if len(inside) else 0.0


def box_on_lattice(mask: sitk.Image, grid: sitk.Image, inverse: sitk.Transform) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest voxel edge (3,) of a warped structure on the lattice of a grid, whole numbers."""
    points = transform_points(inverse, foreground_points(mask))
    margin = float(np.linalg.norm(mask.GetSpacing())) / np.array(grid.GetSpacing())
    places = _indices(grid, points) + 0.5
    return np.floor(places.min(0) - margin), np.ceil(places.max(0) + margin)


def _warped_box(reference: sitk.Image, image: sitk.Image, inverse: sitk.Transform) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest voxel edge of the reference's lattice around the warped field of view."""
    edges = [np.linspace(-0.5, size - 0.5, _STEPS) for size in image.GetSize()]
    points = physical_points(image, np.array(list(itertools.product(*edges))))
    places = _indices(reference, transform_points(inverse, points)) + 0.5
    return np.floor(places.min(0) + 1e-6), np.ceil(places.max(0) - 1e-6)


def _indices(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Return the continuous indices (N, 3) of points (N, 3), LPS mm."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return (points - np.asarray(image.GetOrigin())) @ direction / np.asarray(image.GetSpacing())
