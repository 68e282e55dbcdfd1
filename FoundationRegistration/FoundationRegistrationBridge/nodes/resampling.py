"""Resampling intensities and labels in one step onto another grid."""

from __future__ import annotations

import numpy as np
import vtk

from .grids import VoxelGrid, array_from_image, image_from_array, map_points, matrix_of
from .spaces import composed

_CHUNK = 200_000
# Two layers of background, so that each mixed voxel has all its neighbours inside the array.
_MARGIN = 2


def resample_intensities(
    image: vtk.vtkImageData,
    source: VoxelGrid,
    target: VoxelGrid,
    target_to_source: vtk.vtkAbstractTransform,
    interpolation: str = "linear",
) -> vtk.vtkImageData:
    """Resample an image of any number of components; integers are rounded, the outside gets the minimum.

    Args:
        image: the values; its origin and spacing are ignored.
        source: its grid.
        target: grid of the result.
        target_to_source: maps a RAS point of the target's coordinates to one of the source's.
        interpolation: "nearest", "linear" or "cubic".
    """
    reslice = vtk.vtkImageReslice()
    if interpolation == "cubic":
        reslice.SetInterpolationModeToCubic()
    elif interpolation == "linear":
        reslice.SetInterpolationModeToLinear()
    else:
        reslice.SetInterpolationModeToNearestNeighbor()
    bare = vtk.vtkImageData()
    bare.SetDimensions(image.GetDimensions())
    bare.GetPointData().SetScalars(image.GetPointData().GetScalars())
    least = bare.GetScalarRange()[0] if bare.GetNumberOfScalarComponents() == 1 else 0.0
    reslice.SetInputData(bare)
    reslice.SetResliceTransform(_index_map(source, target, target_to_source))
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(*(end for count in target.dimensions for end in (0, count - 1)))
    reslice.SetBackgroundColor(least, least, least, least)
    reslice.Update()
    result = reslice.GetOutput()
    result.GetPointData().GetScalars().SetName("ImageScalars")
    return result


def resample_labels(
    labels: np.ndarray,
    source: VoxelGrid,
    target: VoxelGrid,
    target_to_source: vtk.vtkAbstractTransform,
    *,
    smooth: bool = True,
) -> np.ndarray:
    """Resample labels, without new labels; 0 outside.

    Args:
        labels: (k, j, i) whole numbers.
        source: their grid.
        target: grid of the result.
        target_to_source: maps a RAS point of the target's coordinates to one of the source's.
        smooth: each voxel gets the label with the largest linearly interpolated weight, which gives smooth boundaries
            and wears off structures of a few voxels; else the nearest label, which keeps volumes on a finer grid.
            They differ only where the labels around a point are mixed, so weights are computed only there.

    Returns:
        (k, j, i) labels on the target, of the same type.
    """
    padded = np.pad(labels, _MARGIN)
    low = np.full(3, -_MARGIN)
    padded_source = source.extended(low, np.array(source.dimensions) - 1 + _MARGIN)
    both = np.stack([padded, _mixed(padded).astype(labels.dtype)], axis=-1)
    nearest = array_from_image(
        resample_intensities(image_from_array(both), padded_source, target, target_to_source, "nearest")
    )
    result = nearest[..., 0].copy()
    if not smooth:
        return result
    mixed = np.argwhere(nearest[..., 1] != 0)
    to_index = _index_map(padded_source, target, target_to_source)
    for begin in range(0, len(mixed), _CHUNK):
        voxels = mixed[begin : begin + _CHUNK]
        positions = map_points(to_index, voxels[:, ::-1])[:, ::-1]
        result[tuple(voxels.T)] = _largest_share(padded, positions)
    return result


def _index_map(
    source: VoxelGrid, target: VoxelGrid, target_to_source: vtk.vtkAbstractTransform
) -> vtk.vtkGeneralTransform:
    """Return the map from an index (i, j, k) of the target to one of the source."""
    begin, end = vtk.vtkTransform(), vtk.vtkTransform()
    begin.SetMatrix(matrix_of(target.ijk_to_ras))
    end.SetMatrix(matrix_of(np.linalg.inv(source.ijk_to_ras)))
    return composed(begin, target_to_source, end)


def _mixed(labels: np.ndarray) -> np.ndarray:
    """Return where the 3 x 3 x 3 neighbourhood of a voxel has more than one label, with repeated edges."""
    lowest = highest = labels
    for axis in range(3):
        width = [(0, 0)] * 3
        width[axis] = (1, 1)
        inner = [slice(None)] * 3
        pieces = []
        for start in range(3):
            inner[axis] = slice(start, start + labels.shape[axis])
            pieces.append(tuple(inner))
        low, high = np.pad(lowest, width, mode="edge"), np.pad(highest, width, mode="edge")
        lowest = np.minimum.reduce([low[piece] for piece in pieces])
        highest = np.maximum.reduce([high[piece] for piece in pieces])
    return lowest != highest


def _largest_share(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the label with the largest sum of trilinear weights at (N, 3) positions (k, j, i)."""
    base = np.clip(np.floor(positions).astype(np.int64), 0, np.array(labels.shape) - 2)
    fraction = positions - base
    corners, weights = [], []
    for step in np.ndindex(2, 2, 2):
        corners.append(labels[tuple((base + step).T)])
        weights.append(np.prod(np.where(step, fraction, 1.0 - fraction), axis=1))
    values = np.stack(corners)
    shares = [
        sum(np.where(other == value, weight, 0.0) for other, weight in zip(values, weights, strict=True))
        for value in values
    ]
    return values[np.argmax(shares, axis=0), np.arange(len(positions))]
