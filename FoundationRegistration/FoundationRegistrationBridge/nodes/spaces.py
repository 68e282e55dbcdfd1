"""Maps between the coordinates of a node and the world, with any parent transforms. RAS mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from .grids import array_of


def to_world(parent: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates below a transform node to the world; the identity for None.

    It follows changes of the nodes; use `snapshot` for a fixed copy.
    """
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(parent, None, transform)
    return transform


def from_world(parent: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the world to the coordinates below a transform node; the identity for None."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, parent, transform)
    return transform


def composed(*transforms: vtk.vtkAbstractTransform | None) -> vtk.vtkGeneralTransform:
    """Return the transform that applies the given ones in order; None is the identity, as in a new node."""
    result = vtk.vtkGeneralTransform()
    result.PostMultiply()
    for transform in transforms:
        if transform is not None:
            result.Concatenate(transform)
    return result


def snapshot(transform: vtk.vtkAbstractTransform) -> vtk.vtkAbstractTransform:
    """Return a copy independent of later node changes; as an editable matrix if linear."""
    matrix = linear_matrix(transform)
    if matrix is not None:
        linear = vtk.vtkTransform()
        linear.SetMatrix(matrix.ravel().tolist())
        return linear
    original, copy = slicer.vtkMRMLTransformNode(), slicer.vtkMRMLTransformNode()
    original.SetAndObserveTransformToParent(transform)
    copy.CopyContent(original)
    return copy.GetTransformToParent()


def linear_matrix(transform: vtk.vtkAbstractTransform) -> np.ndarray | None:
    """Return the (4, 4) matrix of a transform, None if it is not linear."""
    matrix = vtk.vtkTransform()
    if slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, matrix):
        return array_of(matrix.GetMatrix())
    return None


def chain(parent: Any) -> list[Any]:
    """Return a transform node and those above it, the nearest first; empty for None."""
    nodes = []
    while parent is not None:
        nodes.append(parent)
        parent = parent.GetParentTransformNode()
    return nodes


def parent_without(node: Any, left_out: Any) -> Any:
    """Return the transform node above a node, or its parent if it is the one to ignore."""
    parent = node.GetParentTransformNode()
    if parent is not None and parent is left_out:
        return parent.GetParentTransformNode()
    return parent


def hanging_under(transform_node: Any) -> list[Any]:
    """Return the child nodes of a transform node."""
    nodes = slicer.util.getNodesByClass("vtkMRMLTransformableNode", transform_node.GetScene())
    return [node for node in nodes if node.GetParentTransformNode() is transform_node]
