"""Which transform nodes and nodes can be used for transforming, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer

from .errors import BridgeError
from .follow import Mode, can_follow
from .transforms import INVERSE_ROLE, fixed_of
from .volumes import is_sequence


def why_nothing_follows(transform_node: Any, mode: Mode) -> str:
    """Return why a transform node cannot be applied to nodes of the moving volume, and what to do; empty if it can.

    Args:
        transform_node: any node, or None.
        mode: "attach" works under any transform; "resample" needs the fixed volume.
    """
    if transform_node is None:
        return "There is no registration to apply; choose one under Result."
    name = transform_node.GetName()
    if not transform_node.IsA("vtkMRMLTransformNode") or transform_node.GetScene() is None:
        return f"'{name}' is not a transform of this scene; choose a registration under Result."
    forward = _inverted_by(transform_node)
    if forward is not None:
        return (
            f"'{name}' is the inverse of '{forward.GetName()}', from the fixed volume to the moving one; "
            f"choose '{forward.GetName()}'."
        )
    return "" if mode == "attach" else _why_no_grid(transform_node)


def _why_no_grid(transform_node: Any) -> str:
    """Return why there is nothing to resample onto."""
    name, role = transform_node.GetName(), slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole()
    fixed = fixed_of(transform_node)
    if fixed is None and transform_node.GetNodeReferenceID(role):
        return f"The fixed volume of '{name}' is no longer in the scene; load it again, or attach instead."
    if fixed is None:
        return f"'{name}' has no fixed volume; attach instead, or choose a registration."
    if fixed.GetImageData() is None:
        return f"The fixed volume '{fixed.GetName()}' of '{name}' has no voxels; load it again, or attach instead."
    return ""


def _inverted_by(transform_node: Any) -> Any | None:
    """Return the registration of a stored inverse; None if the node is not one."""
    scene = transform_node.GetScene()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLTransformNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLTransformNode")
        if node.GetNodeReference(INVERSE_ROLE) is transform_node:
            return node
    return None


def check_followers(nodes: Iterable[Any], mode: Mode) -> None:
    """Check that nodes are of a type that can be transformed.

    Raises:
        BridgeError: one is not.
    """
    for node in nodes:
        if msg := _why_not(node, mode):
            raise BridgeError(msg)


def _why_not(node: Any, mode: Mode) -> str:
    """Return why a node cannot be transformed and what to do; empty if it can."""
    if node is None or node.GetScene() is None:
        name = "A node to transform" if node is None else f"'{node.GetName()}'"
        return f"{name} is no longer in the scene; remove it from the list."
    name = node.GetName()
    if is_sequence(node):
        return f"'{name}' is a sequence; choose the node that its browser shows (its proxy node)."
    if not node.IsA("vtkMRMLTransformableNode"):
        return (
            f"'{name}' is of a type that can neither be resampled nor put under a transform; remove it from the list."
        )
    if mode == "attach" or can_follow(node):
        return ""
    if node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is None:
        return f"'{name}' has no voxels and cannot be resampled; load it first, or remove it from the list."
    return f"'{name}' is of a type that cannot be resampled; attach it to the transform instead."
