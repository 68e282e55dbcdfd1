"""Transform files of the engine to transform nodes at the right place in the hierarchy, and back.

A registration is computed in the world: it maps a fixed point to a moving point, which is FromParent of the node that
becomes the parent of the moving volume. If the moving volume already has a parent, the result is inserted between the
two: volume -> result -> old parent -> world. So the old parent still acts, and its other children do not move. For
that the result is converted to the coordinates below the parent:

    FromParent = (world to parent) . (fixed to moving, in the world) . (parent to world)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from ..nodes.grids import VoxelGrid, image_from_array, map_points, matrix_of
from ..nodes.spaces import chain, composed, from_world, linear_matrix, snapshot, to_world
from .marks import moving_parent, new_run
from .outlines import Outline

RECORD = "FoundationRegistration.Record"
INVERSE_ROLE = "FoundationRegistration.Inverse"
_SAMPLES_PER_AXIS = 96
_MARGIN_SHARE = 0.25


def read_transform(path: Path) -> vtk.vtkAbstractTransform:
    """Return the map of points in a transform file, RAS mm, in its stored direction.

    Raises:
        BridgeError: it cannot be read.
    """
    node = slicer.vtkMRMLTransformNode()
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        msg = f"The result '{path.name}' cannot be read; run the registration again."
        raise BridgeError(msg)
    return node.GetTransformFromParent()


def below(parent_to_world: vtk.vtkAbstractTransform, transform: vtk.vtkAbstractTransform) -> Any:
    """Return a transform node, in no scene yet, equivalent under a parent to a transform in the world.

    If it is linear, so is the node: Slicer then offers it where a linear transform is asked for, and its sliders.

    Args:
        parent_to_world: of the parent of the new node.
        transform: FromParent of the new node if it had no parent.
    """
    conjugated = composed(parent_to_world, transform, parent_to_world.GetInverse())
    is_linear = linear_matrix(conjugated) is not None
    node = slicer.vtkMRMLLinearTransformNode() if is_linear else slicer.vtkMRMLTransformNode()
    node.SetAndObserveTransformFromParent(snapshot(conjugated))
    return node


def world_registration(transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map of fixed points to moving points of a registration, in the world."""
    above = from_world(transform_node.GetParentTransformNode())
    return composed(above, transform_node.GetTransformFromParent(), to_world(moving_parent(transform_node)))


def inverse_of(transform_node: Any) -> Any | None:
    """Return the node of the stored inverse of a registration, which transforms from fixed to moving."""
    return transform_node.GetNodeReference(INVERSE_ROLE)


def store_record(
    transform_node: Any, record: Mapping[str, Any], fixed: Any, moving: Any, outline: Outline | None = None
) -> None:
    """Store the run record and the inputs on a transform node that is already in place."""
    transform_node.SetAttribute(RECORD, json.dumps(record))
    name_run(transform_node, fixed, moving, outline)


def name_run(transform_node: Any, fixed: Any, moving: Any, outline: Outline | None = None) -> None:
    """Mark a transform node that is already in place as a registration of its inputs.

    Args:
        transform_node: the registration.
        fixed: fixed volume.
        moving: moving volume.
        outline: of the moving volume below the parent of the registration; the current one if None.
    """
    transform_node.SetNodeReferenceID(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole(), fixed.GetID())
    transform_node.SetNodeReferenceID(slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole(), moving.GetID())
    new_run(transform_node, outline or Outline.of(moving))


def fixed_of(transform_node: Any) -> Any | None:
    """Return the fixed volume of a registration; None if it was removed."""
    return transform_node.GetNodeReference(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole())


def moving_of(transform_node: Any) -> Any | None:
    """Return the moving volume of a registration; None if it was removed."""
    return transform_node.GetNodeReference(slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole())


def stored_record(transform_node: Any) -> dict[str, Any]:
    """Return the run record of a registration, empty if the node is not one."""
    text = transform_node.GetAttribute(RECORD)
    return json.loads(text) if text else {}


def write_initial_transform(transform_node: Any, fixed: VoxelGrid, path: Path, moving_parent: Any = None) -> None:
    """Write a transform node, in world coordinates, for the engine: fixed points to moving points.

    A linear transform is written directly. Any other is sampled around the fixed volume, since the inverse of a grid
    can only be stored in a Slicer-specific format.

    Args:
        transform_node: in the sense of a parent of the moving volume.
        fixed: grid of the fixed volume in the world.
        path: an .h5 file.
        moving_parent: parent of the moving volume as it is registered. What the transform shares with it, as an
            earlier registration between the volume and its parent does, acts already and does not count twice.

    Raises:
        BridgeError: it cannot be written.
    """
    above = chain(moving_parent)
    shared = next((node for node in chain(transform_node.GetParentTransformNode()) if node in above), None)
    transform = composed(from_world(transform_node), to_world(shared))
    node = slicer.vtkMRMLTransformNode()
    matrix = linear_matrix(transform)
    if matrix is None:
        node.SetAndObserveTransformFromParent(_sampled_around(transform, fixed))
    else:
        node.SetMatrixTransformFromParent(matrix_of(matrix))
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        msg = f"The initial transform '{transform_node.GetName()}' cannot be written; free some disk space."
        raise BridgeError(msg)


def _sampled_around(transform: vtk.vtkAbstractTransform, around: VoxelGrid) -> vtk.vtkAbstractTransform:
    """Return a grid transform, along the axes of RAS, that equals another on and around a grid."""
    points = around.sample_points()
    margin = _MARGIN_SHARE * np.ptp(points, axis=0)
    low, high = points.min(0) - margin, points.max(0) + margin
    spacing = float((high - low).max()) / (_SAMPLES_PER_AXIS - 1)
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = low
    voxel_grid = VoxelGrid((int(counts[0]), int(counts[1]), int(counts[2])), matrix)
    return sampled_on(transform, voxel_grid)


def sampled_on(transform: vtk.vtkAbstractTransform, grid: VoxelGrid) -> vtk.vtkAbstractTransform:
    """Return the displacement of a transform at the voxels of a grid, as a grid transform."""
    size = grid.dimensions[::-1]
    k, j, i = np.indices(size).reshape(3, -1)
    positions = grid.ras(np.stack([i, j, k], axis=1))
    image = image_from_array((map_points(transform, positions) - positions).reshape(*size, 3))
    image.SetSpacing(*grid.spacing)
    image.SetOrigin(*grid.ijk_to_ras[:3, 3])
    directions = np.eye(4)
    directions[:3, :3] = grid.ijk_to_ras[:3, :3] / grid.spacing
    result = slicer.vtkOrientedGridTransform()
    result.SetGridDirectionMatrix(matrix_of(directions))
    result.SetDisplacementGridData(image)
    return result
