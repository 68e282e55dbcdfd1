"""Voxel grids: dimensions and geometry."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_STRAIGHT = 1e-4


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The geometry of an image.

    Attributes:
        dimensions: number of voxels along i, j, k.
        ijk_to_ras: (4, 4) from the voxel index (i, j, k), zero-based, to RAS mm.
    """

    dimensions: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel spacing along i, j, k in mm."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def is_rectangular(self) -> bool:
        """Whether the axes are perpendicular, as image files require."""
        directions = self.ijk_to_ras[:3, :3] / self.spacing
        return bool(np.abs(directions.T @ directions - np.eye(3)).max() < _STRAIGHT)

    def moved(self, matrix: np.ndarray) -> VoxelGrid:
        """Return this grid transformed by a (4, 4) linear map of RAS."""
        return VoxelGrid(self.dimensions, matrix @ self.ijk_to_ras)

    def extended(self, low: np.ndarray, high: np.ndarray) -> VoxelGrid:
        """Return the grid with the same voxel positions from index `low` to index `high`, both included."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] = (self.ijk_to_ras @ [*low, 1.0])[:3]
        i, j, k = (int(count) for count in np.asarray(high) - low + 1)
        return VoxelGrid((i, j, k), matrix)

    def coarser(self, factor: float) -> VoxelGrid:
        """Return a grid over the same extent with voxels that are larger along each axis, by about a factor."""
        i, j, k = (max(1, round(count / factor)) for count in self.dimensions)
        steps = np.array(self.dimensions) / (i, j, k)
        matrix = self.ijk_to_ras.copy()
        matrix[:3, :3] *= steps
        matrix[:3, 3] = self.ras((steps / 2.0 - 0.5)[None])[0]
        return VoxelGrid((i, j, k), matrix)

    def sample_points(self, steps: int = 9) -> np.ndarray:
        """Return (steps^3, 3) RAS points spread over the grid out to the faces of its outer voxels."""
        axes = [np.linspace(-0.5, count - 0.5, steps) for count in self.dimensions]
        return self.ras(np.array(list(itertools.product(*axes))))

    def ras(self, indices: np.ndarray) -> np.ndarray:
        """Return the RAS positions (N, 3) of (N, 3) indices (i, j, k), which need not be whole."""
        return indices @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Return the indices (i, j, k), with fractions, of (N, 3) RAS points."""
        inverse = np.linalg.inv(self.ijk_to_ras)
        return points @ inverse[:3, :3].T + inverse[:3, 3]


def grid_of(volume_node: Any) -> VoxelGrid:
    """Return the grid of a volume node in its own coordinates, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return VoxelGrid(volume_node.GetImageData().GetDimensions(), array_of(matrix))


def grid_of_oriented_image(image: Any) -> VoxelGrid:
    """Return the grid of a segment's image, whose extent need not begin at zero."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    low = np.array(image.GetExtent()[::2])
    high = np.array(image.GetExtent()[1::2])
    return VoxelGrid(image.GetDimensions(), array_of(matrix)).extended(low, high)


def array_of(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """Return a VTK matrix as a (4, 4) array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_of(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """Return a (4, 4) array as a VTK matrix."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(array.ravel().tolist())
    return matrix


def map_points(transform: vtk.vtkAbstractTransform, points: np.ndarray) -> np.ndarray:
    """Return (N, 3) points mapped by a transform."""
    given, mapped = vtk.vtkPoints(), vtk.vtkPoints()
    given.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64)))
    mapped.SetDataTypeToDouble()
    transform.TransformPoints(given, mapped)
    return vtk_to_numpy(mapped.GetData()).copy()


def image_from_array(array: np.ndarray) -> vtk.vtkImageData:
    """Return an image with its own copy of an array (k, j, i) or (k, j, i, components)."""
    components = array.shape[3] if array.ndim == 4 else 1
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[2::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(array).reshape(-1, components), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image


def array_from_image(image: vtk.vtkImageData) -> np.ndarray:
    """Return a view of an image's values as (k, j, i) or (k, j, i, components)."""
    shape = image.GetDimensions()[::-1]
    components = image.GetNumberOfScalarComponents()
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(*shape, components) if components > 1 else values.reshape(shape)


def sitk_image(array: np.ndarray, grid: VoxelGrid) -> Any:
    """Return an array (k, j, i) on a grid in RAS as a SimpleITK image, which is in LPS."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing.tolist())
    image.SetDirection((RAS_TO_LPS[:, None] * grid.ijk_to_ras[:3, :3] / grid.spacing).ravel().tolist())
    image.SetOrigin((RAS_TO_LPS * grid.ijk_to_ras[:3, 3]).tolist())
    return image
