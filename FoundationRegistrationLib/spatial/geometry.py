"""Physical space: checks of input volumes, the common working grid, resampling onto it.

Everything here is in LPS millimetres, as SimpleITK has it. Arrays are indexed (z, y, x).
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import InputError

_ORTHONORMAL_TOLERANCE = 1e-3
# No scanner goes beyond these: voxel edges, and where the first voxel lies.
SPACING_RANGE_MM = (1e-5, 1e3)
FARTHEST_MM = 1e6


@dataclass(frozen=True)
class WorkingGrid:
    """An isotropic grid whose axes are the patient's L, P and S axes, so that slices along z are axial.

    Attributes:
        origin: LPS position in mm of the centre of voxel (0, 0, 0), as (x, y, z).
        spacing: voxel edge in mm.
        shape: number of voxels as (z, y, x).
    """

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    def pooled(self, factor: int) -> WorkingGrid:
        """Return the grid of cells made by averaging `factor` voxels along each axis, the last one padded."""
        shift = (factor - 1) / 2 * self.spacing
        x, y, z = (value + shift for value in self.origin)
        depth, height, width = (-(-size // factor) for size in self.shape)
        return WorkingGrid((x, y, z), self.spacing * factor, (depth, height, width))

    def padded(self, cells: int) -> WorkingGrid:
        """Return the grid with `cells` more voxels on every side."""
        x, y, z = (value - cells * self.spacing for value in self.origin)
        depth, height, width = (size + 2 * cells for size in self.shape)
        return WorkingGrid((x, y, z), self.spacing, (depth, height, width))

    def image(self, array: np.ndarray, is_vector: bool = False) -> sitk.Image:
        """Return an array indexed (z, y, x) or (z, y, x, component) as an image on this grid."""
        image = sitk.GetImageFromArray(array, isVector=is_vector)
        image.SetOrigin(self.origin)
        image.SetSpacing((self.spacing,) * 3)
        return image


def check_volume(image: sitk.Image, role: str) -> None:
    """Check that an image is one 3D scalar volume in a sound physical space, with some content.

    Args:
        image: what was given.
        role: its name in error messages, such as "fixed".

    Raises:
        InputError: with what is wrong and what to do.
    """
    check_grid(image, role)
    values = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(values.dtype, np.floating):
        values = values[np.isfinite(values)]
        if values.size == 0:
            msg = f"The {role} volume has no finite value (all NaN or infinite); export it again."
            raise InputError(msg)
    if values.min() == values.max():
        msg = f"The {role} volume is empty: every voxel is {values.flat[0]:g}; choose a volume with content."
        raise InputError(msg)


def check_grid(image: sitk.Image, role: str, *, any_voxels: bool = False) -> None:
    """Check that an image is one 3D volume in a sound physical space, whatever its content.

    Args:
        image: what was given.
        role: its name in error messages, such as "fixed".
        any_voxels: take colours, vectors and complex numbers, too.

    Raises:
        InputError: with what is wrong and what to do.
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
        msg = f"The {role} volume has voxels of {sizes} mm; correct its header."
        raise InputError(msg)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    error = np.abs(direction.T @ direction - np.eye(3)).max()
    if not error < _ORTHONORMAL_TOLERANCE:
        msg = f"The {role} volume has axes that are not perpendicular unit vectors; resample it to a proper grid."
        raise InputError(msg)
    if not np.all(np.abs(image.GetOrigin()) <= FARTHEST_MM):
        place = ", ".join(f"{value:g}" for value in image.GetOrigin())
        msg = f"The {role} volume places its first voxel at ({place}) mm, where no patient is; correct its header."
        raise InputError(msg)


def check_same_grid(mask: sitk.Image, image: sitk.Image, mask_role: str, image_role: str) -> None:
    """Check that a mask or label map lies on the voxel grid of its volume (to a hundredth of a voxel).

    Raises:
        InputError: the grids differ.
    """
    _check_dimensions(mask, mask_role)
    size = np.array(image.GetSize())
    same = mask.GetSize() == image.GetSize()
    if same:
        corners = [tuple(int(v) for v in corner * (size - 1)) for corner in _UNIT_CORNERS]
        ours = np.array([mask.TransformIndexToPhysicalPoint(corner) for corner in corners])
        theirs = np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners])
        same = bool(np.abs(ours - theirs).max() <= 0.01 * max(image.GetSpacing()))
    if not same:
        msg = f"The {mask_role} does not lie on the grid of the {image_role} volume; resample it onto that grid."
        raise InputError(msg)


_UNIT_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))


def field_of_view(image: sitk.Image) -> np.ndarray:
    """Return the eight outer corners of the voxel grid, (8, 3) in LPS mm."""
    size = np.array(image.GetSize())
    corners = _UNIT_CORNERS * size - 0.5
    return np.array([image.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners])


def size_mm(image: sitk.Image) -> tuple[float, ...]:
    """Return the lengths of the voxel grid along its axes, mm."""
    return tuple(size * spacing for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True))


def size_words(image: sitk.Image) -> str:
    """Return the lengths of the voxel grid for a message: 320 x 320 x 90 mm."""
    return " x ".join(f"{length:.3g}" for length in size_mm(image)) + " mm"


def foreground_points(mask: sitk.Image) -> np.ndarray:
    """Return the extent of a mask as points, (N, 3) in LPS mm: the centres of its extreme voxels.

    For each of the mask's index lines along x only the first and the last voxel are returned, which have the
    same bounding box as all of them in any rotated frame.
    """
    array = sitk.GetArrayViewFromImage(mask) != 0
    lines = np.argwhere(array.any(axis=2))
    first = array.argmax(axis=2)[lines[:, 0], lines[:, 1]]
    last = array.shape[2] - 1 - array[:, :, ::-1].argmax(axis=2)[lines[:, 0], lines[:, 1]]
    ends = [np.column_stack([x, lines[:, 1], lines[:, 0]]) for x in (first, last)]
    return physical_points(mask, np.concatenate(ends))


def physical_points(image: sitk.Image, indices: np.ndarray) -> np.ndarray:
    """Map continuous indices (N, 3) in x, y, z order to LPS points (N, 3) in mm."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return np.asarray(image.GetOrigin()) + (indices * np.asarray(image.GetSpacing())) @ direction.T


def transform_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Map points (N, 3) in LPS mm through a transform, exactly."""
    mapped = [transform.TransformPoint(point) for point in np.asarray(points, dtype=float).tolist()]
    return np.array(mapped).reshape(-1, 3)


def linear_parts(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Return the matrices (N, 3, 3) that a transform is close to around points (N, 3), by steps of 1 mm."""
    here = transform_points(transform, points)
    columns = [transform_points(transform, points + step) - here for step in np.eye(3)]
    return np.stack(columns, axis=-1)


def matrix_of(transform: sitk.Transform) -> list[list[float]] | None:
    """Return a linear transform as the rows of a 4 x 4 matrix, LPS mm; None if it is not linear."""
    if not transform.IsLinear():
        return None
    origin = np.zeros((1, 3))
    rows = np.hstack([linear_parts(transform, origin)[0], transform_points(transform, origin).T])
    return [*rows.tolist(), [0.0, 0.0, 0.0, 1.0]]


def content_sha256(image: sitk.Image) -> str:
    """Return a hash of the voxels, their type and their place; the same for every file that holds this volume."""
    place = [round(v, 4) + 0.0 for v in (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())]
    digest = hashlib.sha256(repr((image.GetPixelIDTypeAsString(), image.GetSize(), place)).encode())
    digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
    return digest.hexdigest()


def check_overlap(fixed: sitk.Image, moving: sitk.Image, initial: sitk.Transform) -> None:
    """Check that the two volumes share some space once the initial transform is applied.

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


def working_grid(
    fixed_points: np.ndarray,
    moving_points: np.ndarray,
    *,
    spacing_mm: float,
    reach_mm: float,
    margin_voxels: int,
    multiple: int,
) -> WorkingGrid:
    """Return the grid that holds the fixed anatomy and what may be matched to it.

    The box is the fixed foreground, extended towards the moving foreground by at most `reach_mm`, and by
    `margin_voxels` on every side; its size is a multiple of `multiple` voxels.

    Args:
        fixed_points: extent of the fixed foreground, (N, 3) LPS mm.
        moving_points: extent of the moving foreground carried into fixed space, (M, 3) LPS mm.
        spacing_mm: voxel edge.
        reach_mm: largest displacement that is searched for.
        margin_voxels: empty voxels on every side.
        multiple: grid spacing of the coarsest grid that must fit a whole number of times.
    """
    low, high = fixed_points.min(0), fixed_points.max(0)
    low = np.maximum(low - reach_mm, np.minimum(low, moving_points.min(0))) - margin_voxels * spacing_mm
    high = np.minimum(high + reach_mm, np.maximum(high, moving_points.max(0))) + margin_voxels * spacing_mm
    cells = np.maximum(np.ceil((high - low) / (spacing_mm * multiple)), 1).astype(int) * multiple
    origin = (low + high) / 2 - (cells - 1) / 2 * spacing_mm
    x, y, z = (float(value) for value in origin)
    width, height, depth = (int(value) for value in cells)
    return WorkingGrid((x, y, z), float(spacing_mm), (depth, height, width))


def resample_to_grid(
    image: sitk.Image,
    grid: WorkingGrid,
    transform: sitk.Transform,
    *,
    label: bool = False,
) -> np.ndarray:
    """Sample a volume on the working grid, as a float32 array (z, y, x).

    Intensities are interpolated linearly, after a Gaussian that removes detail finer than the grid; outside
    the volume the nearest voxel is repeated, so that the edge of the field of view makes no edge in the image.
    Masks (`label`) are sampled at the nearest voxel and are zero outside.

    Args:
        image: scalar volume.
        grid: where to sample.
        transform: maps a point of the grid to a point of the volume, LPS mm.
        label: sample a mask rather than intensities.
    """
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(size) for size in reversed(grid.shape)])
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputSpacing((grid.spacing,) * 3)
    resampler.SetTransform(transform)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    if label:
        resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    else:
        image = smoothed_for_spacing(image, grid.spacing)
        resampler.SetInterpolator(sitk.sitkLinear)
        resampler.UseNearestNeighborExtrapolatorOn()
    return sitk.GetArrayFromImage(resampler.Execute(image))


def smoothed_for_spacing(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Return the volume without the detail that a coarser spacing cannot carry; unchanged where it is finer."""
    fine = np.asarray(image.GetSpacing())
    sigma = np.where(spacing_mm > 1.2 * fine, 0.4 * np.sqrt(np.maximum(spacing_mm**2 - fine**2, 0.0)), 0.0)
    if not sigma.any():
        return image
    return sitk.DiscreteGaussian(image, (sigma**2).tolist(), 32, 0.01, True)
