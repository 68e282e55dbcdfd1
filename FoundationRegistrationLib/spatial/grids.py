"""Voxel grids: the working grid, resampling onto it, comparing and describing grids.

Everything is in LPS mm, as in SimpleITK. Arrays are indexed (z, y, x).
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class WorkingGrid:
    """An isotropic grid along the patient's L, P and S axes, so that slices along z are axial.

    Attributes:
        origin: LPS position in mm of the centre of voxel (0, 0, 0), as (x, y, z).
        spacing: voxel spacing in mm.
        shape: number of voxels as (z, y, x).
    """

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    def pooled(self, factor: int) -> WorkingGrid:
        """Return the grid of cells of `factor` voxels along each axis, the last one padded."""
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


UNIT_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))


def field_of_view(image: sitk.Image) -> np.ndarray:
    """Return the eight outer corners of the voxel grid, (8, 3) in LPS mm."""
    size = np.array(image.GetSize())
    corners = UNIT_CORNERS * size - 0.5
    return np.array([image.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners])


def size_mm(image: sitk.Image) -> tuple[float, ...]:
    """Return the field of view along each axis, mm."""
    return tuple(size * spacing for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True))


def size_words(image: sitk.Image) -> str:
    """Return the field of view for a message: 320 x 320 x 90 mm."""
    return " x ".join(f"{length:.3g}" for length in size_mm(image)) + " mm"


def content_sha256(image: sitk.Image) -> str:
    """Return a hash of the voxels, their type and their geometry, independent of the file format."""
    place = [round(v, 4) + 0.0 for v in (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())]
    digest = hashlib.sha256(repr((image.GetPixelIDTypeAsString(), image.GetSize(), place)).encode())
    digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
    return digest.hexdigest()


def working_grid(
    fixed_points: np.ndarray,
    moving_points: np.ndarray,
    *,
    spacing_mm: float,
    reach_mm: float,
    margin_voxels: int,
    multiple: int,
) -> WorkingGrid:
    """Return the grid of the fixed anatomy and what may be matched to it.

    The box is the fixed foreground, extended towards the moving foreground by at most `reach_mm`, and by
    `margin_voxels` on every side; its size is a multiple of `multiple` voxels.

    Args:
        fixed_points: extent of the fixed foreground, (N, 3) LPS mm.
        moving_points: extent of the moving foreground in fixed space, (M, 3) LPS mm.
        spacing_mm: voxel spacing.
        reach_mm: largest displacement searched for.
        margin_voxels: empty voxels on every side.
        multiple: spacing of the coarsest grid, of which the size is a multiple.
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

    Intensities are interpolated linearly after Gaussian anti-alias smoothing; outside the volume the nearest voxel is
    repeated, so that the edge of the field of view does not appear as an edge. Masks (`label`) use nearest-neighbour
    interpolation and are zero outside.

    Args:
        image: scalar volume.
        grid: where to sample.
        transform: maps a point of the grid to a point of the volume, LPS mm.
        label: the image is a mask.
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
    """Return the volume smoothed against aliasing on a coarser grid; unchanged along axes that are not coarser."""
    fine = np.asarray(image.GetSpacing())
    sigma = np.where(spacing_mm > 1.2 * fine, 0.4 * np.sqrt(np.maximum(spacing_mm**2 - fine**2, 0.0)), 0.0)
    if not sigma.any():
        return image
    return sitk.DiscreteGaussian(image, (sigma**2).tolist(), 32, 0.01, True)
