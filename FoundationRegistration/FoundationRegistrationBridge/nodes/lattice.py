"""A lattice of their own for segments that the voxels of the fixed volume are too coarse for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import vtk

from .grids import VoxelGrid, map_points
from .masks import LabelLayer

# As in the engine, see `FoundationRegistrationLib/pipeline/propagation/lattice.py`.
_FINE_ENOUGH = 1.2
_FINENESS = (0.5, 1.0)
_MOST_VOXELS = 3e8


def finer_grid(
    layers: Sequence[LabelLayer], fixed: VoxelGrid, to_fixed: vtk.vtkAbstractTransform
) -> tuple[VoxelGrid, VoxelGrid] | None:
    """Return grids that divide the voxels of the fixed volume: around the segments, and over the whole volume.

    Args:
        layers: the segments.
        fixed: grid of the fixed volume.
        to_fixed: from their coordinates to those of the fixed volume.

    Returns:
        None if the voxels of the fixed volume are fine enough, or the segments lie outside it.
    """
    boxes = [box for layer in layers if (box := _box(layer, fixed, to_fixed)) is not None]
    if not boxes:
        return None
    low = np.maximum(np.min([box[0] for box in boxes], axis=0), 0)
    high = np.minimum(np.max([box[1] for box in boxes], axis=0), np.array(fixed.dimensions) - 1)
    if (high < low).any():
        return None
    middle = fixed.ras((low + high)[None] / 2.0)
    fine = np.min([_spacing_along(fixed, layer.grid, to_fixed.GetInverse(), middle) for layer in layers], axis=0)
    if (fixed.spacing <= _FINE_ENOUGH * fine).all():
        return None
    for fineness in _FINENESS:
        factors = np.maximum(np.ceil(fixed.spacing / (fineness * fine) - 1e-6), 1).astype(int)
        if np.prod((high - low + 1) * factors) <= _MOST_VOXELS:
            return _divided(fixed.extended(low, high), factors), _divided(fixed, factors)
    return None


def _box(
    layer: LabelLayer, fixed: VoxelGrid, to_fixed: vtk.vtkAbstractTransform
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the lowest and highest index of the fixed volume around a layer's segments; None if it has none."""
    marked = layer.labels != 0
    if not marked.any():
        return None
    axes = ((0, 1), (0, 2), (1, 2))  # all but i, j and k, of an array (k, j, i)
    along = [np.flatnonzero(marked.any(axis=others)) for others in axes]
    box = layer.grid.extended(np.array([each[0] for each in along]), np.array([each[-1] for each in along]))
    places = fixed.indices(map_points(to_fixed, box.sample_points()))
    return np.floor(places.min(0)).astype(int), np.ceil(places.max(0)).astype(int)


def _spacing_along(
    fixed: VoxelGrid, source: VoxelGrid, to_source: vtk.vtkAbstractTransform, point: np.ndarray
) -> np.ndarray:
    """Return the size of the voxels of a source along the axes of the fixed volume, (3,) in mm."""
    directions = (fixed.ijk_to_ras[:3, :3] / fixed.spacing).T
    mapped = source.indices(map_points(to_source, np.concatenate([point, point + directions])))
    return 1.0 / np.linalg.norm(mapped[1:] - mapped[0], axis=1)


def _divided(grid: VoxelGrid, factors: np.ndarray) -> VoxelGrid:
    """Return a grid with each voxel divided along its axes."""
    matrix = grid.ijk_to_ras.copy()
    matrix[:3, :3] /= factors
    matrix[:3, 3] = grid.ras((0.5 / factors - 0.5)[None])[0]
    i, j, k = (int(count) for count in np.array(grid.dimensions) * factors)
    return VoxelGrid((i, j, k), matrix)
