"""Volume nodes to files in world coordinates, and files to volume nodes that are in no scene yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from .grids import VoxelGrid, grid_of, image_from_array, map_points, matrix_of
from .resampling import resample_intensities
from .spaces import from_world, linear_matrix, to_world

_NO_SPACE = "there is not enough disk space, or no permission to write"
_MOST_VOXELS = 1024**3


def check_scalar_volume(node: Any, role: str) -> None:
    """Check that a node is a volume with one value per voxel.

    Raises:
        BridgeError: it is not.
    """
    if node is not None and is_sequence(node):
        msg = f"'{node.GetName()}' is a sequence; choose the volume that its browser shows as the {role} volume."
        raise BridgeError(msg)
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
        msg = f"Choose a {role} volume."
        raise BridgeError(msg)
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        msg = (
            f"The {role} volume '{node.GetName()}' is a label map; choose the image it was drawn on, and "
            "transform the label map with the result."
        )
        raise BridgeError(msg)
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        msg = f"The {role} volume '{node.GetName()}' has no voxels; load it, or choose another."
        raise BridgeError(msg)
    if image.GetNumberOfScalarComponents() != 1:
        msg = f"The {role} volume '{node.GetName()}' has several values per voxel; choose a scalar volume."
        raise BridgeError(msg)


def is_sequence(node: Any) -> bool:
    """Whether a node is a sequence or its browser, which show one item at a time as a separate node."""
    return node.IsA("vtkMRMLSequenceNode") or node.IsA("vtkMRMLSequenceBrowserNode")


def volume_in_world(node: Any, parent: Any) -> tuple[vtk.vtkImageData, VoxelGrid]:
    """Return the voxels of a volume and their grid in the world.

    A linear parent only moves the grid. If it shears, or a parent is nonlinear, the volume is resampled in one step
    onto a regular grid around its transformed extent.

    Args:
        node: a volume node.
        parent: the transform node to apply.
    """
    local, image = grid_of(node), node.GetImageData()
    world, only_moved = grid_in_world(local, to_world(parent))
    if only_moved:
        return image, world
    return resample_intensities(image, local, world, from_world(parent)), world


def grid_in_world(local: VoxelGrid, transform: vtk.vtkAbstractTransform) -> tuple[VoxelGrid, bool]:
    """Return a regular grid for a transformed grid, and whether its voxels are the same.

    Raises:
        BridgeError: it would be too large.
    """
    matrix = linear_matrix(transform)
    if matrix is not None:
        world = local.moved(matrix)
        if world.is_rectangular:
            return world, True
    return _straight_grid_around(local, transform), False


def _straight_grid_around(local: VoxelGrid, transform: vtk.vtkAbstractTransform) -> VoxelGrid:
    """Return a grid with the axes and spacing of another that contains that one transformed."""
    straight = np.eye(4)
    straight[:3, :3] = _nearest_rotation(local.ijk_to_ras[:3, :3]) * local.spacing
    frame = VoxelGrid(local.dimensions, straight)
    indices = frame.indices(map_points(transform, local.sample_points()))
    world = frame.extended(np.floor(indices.min(0)), np.ceil(indices.max(0)))
    if np.prod(world.dimensions, dtype=float) > _MOST_VOXELS:
        msg = "A parent transform enlarges the volume excessively; check the transforms above it."
        raise BridgeError(msg)
    return world


def _nearest_rotation(axes: np.ndarray) -> np.ndarray:
    """Return the orthonormal axes nearest to those of a (3, 3) matrix, its columns."""
    left, _, right = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    return left @ right


def write_volume(image: vtk.vtkImageData, grid: VoxelGrid, path: Path) -> None:
    """Write an image as an uncompressed NRRD file.

    Raises:
        BridgeError: it cannot be written.
    """
    node = slicer.vtkMRMLScalarVolumeNode()
    bare = vtk.vtkImageData()
    bare.SetDimensions(image.GetDimensions())
    bare.GetPointData().SetScalars(image.GetPointData().GetScalars())
    node.SetAndObserveImageData(bare)
    node.SetIJKToRASMatrix(matrix_of(grid.ijk_to_ras))
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(False)
    if not storage.WriteData(node):
        msg = f"'{path}' cannot be written: {_NO_SPACE}; free some, or choose another temporary folder."
        raise BridgeError(msg)


def write_array(array: np.ndarray, grid: VoxelGrid, path: Path) -> None:
    """Write an array (k, j, i) as an uncompressed NRRD file.

    Raises:
        BridgeError: it cannot be written.
    """
    write_volume(image_from_array(array), grid, path)


def new_volume(image: vtk.vtkImageData, grid: VoxelGrid, like: Any) -> Any:
    """Return a volume node, in no scene yet, of the class and units of another."""
    node = getattr(slicer, like.GetClassName())()
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(matrix_of(grid.ijk_to_ras))
    _take_units(node, like)
    return node


def overwrite_volume(node: Any, volume: Any) -> None:
    """Copy voxels, geometry and units of another volume into a node, which keeps its name and display.

    References to the DICOM files of the former voxels are removed.
    """
    node.SetIJKToRASMatrix(matrix_of(grid_of(volume).ijk_to_ras))
    node.SetAndObserveImageData(volume.GetImageData())
    _take_units(node, volume)
    for name in [name for name in node.GetAttributeNames() if name.startswith("DICOM.")]:
        node.RemoveAttribute(name)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()


def _take_units(node: Any, like: Any) -> None:
    """Copy quantity and units of another volume, such as SUV; unknown if unset there."""
    for get, take in (
        (like.GetVoxelValueQuantity, node.SetVoxelValueQuantity),
        (like.GetVoxelValueUnits, node.SetVoxelValueUnits),
    ):
        entry = get()
        own = slicer.vtkCodedEntry() if entry is not None else None
        if own is not None:
            own.Copy(entry)
        take(own)


def read_volume(path: Path, name: str, class_name: str = "vtkMRMLScalarVolumeNode") -> Any:
    """Return a volume file as a node that is in no scene yet.

    Raises:
        BridgeError: it cannot be read.
    """
    node = getattr(slicer, class_name)()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        msg = f"The result '{path.name}' cannot be read; run the registration again."
        raise BridgeError(msg)
    node.SetName(name)
    return node
