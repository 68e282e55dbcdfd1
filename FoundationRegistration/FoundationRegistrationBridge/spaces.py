"""Maps between the coordinates of a node and the world, whatever transforms hang above it. RAS mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from .lattices import array_of

# From a copy of a registration, made for a node with a parent of its own, to the registration.
COPY_ROLE = "FoundationRegistration.CopyOf"


def to_world(parent: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates below a transform node to the world; the identity for None.

    It follows the nodes if they change; take `snapshot` of what has to stay.
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
    """Return the transform that applies the given ones in the order given; None, as in a new node, does nothing."""
    result = vtk.vtkGeneralTransform()
    result.PostMultiply()
    for transform in transforms:
        if transform is not None:
            result.Concatenate(transform)
    return result


def snapshot(transform: vtk.vtkAbstractTransform) -> vtk.vtkAbstractTransform:
    """Return a copy that later changes of nodes do not reach."""
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


def follows(node: Any, transform_node: Any) -> bool:
    """Tell whether a node hangs under a registration or under a copy of it."""
    return any(_is_or_copies(parent, transform_node) for parent in chain(node.GetParentTransformNode()))


def uncarried_to_world(node: Any, transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates of a node to where it is in the world without a registration."""
    above = chain(node.GetParentTransformNode())
    return composed(*(each.GetTransformToParent() for each in above if not _is_or_copies(each, transform_node)))


def _is_or_copies(node: Any, transform_node: Any) -> bool:
    return node is transform_node or node.GetNodeReference(COPY_ROLE) is transform_node


def carried_to_world(node: Any, transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates of a node to where a registration brings it in the world.

    Args:
        node: any transformable node that goes with the moving volume. Its own parents act first. If it hangs
            under the registration already, that is not applied twice.
        transform_node: a registration as `transforms.py` places it: between the moving volume and its parent.
    """
    parent, registration_parent = node.GetParentTransformNode(), transform_node.GetParentTransformNode()
    if follows(node, transform_node):
        return to_world(parent)
    registration = transform_node.GetTransformToParent()
    if parent is registration_parent:
        return composed(registration, to_world(parent))
    return composed(to_world(parent), from_world(registration_parent), registration, to_world(registration_parent))


def parent_without(node: Any, left_out: Any) -> Any:
    """Return the transform node above a node, or the one above that if it is the one to leave out."""
    parent = node.GetParentTransformNode()
    if parent is not None and parent is left_out:
        return parent.GetParentTransformNode()
    return parent
