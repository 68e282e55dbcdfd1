"""Transforming nodes with a registration in either direction: what can be used, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import slicer

from ..errors import BridgeError
from ..nodes.volumes import is_sequence
from ..scene.transforms import INVERSE_ROLE, fixed_of, inverse_of, moving_of
from ..scene.undo import Undo
from .apply import Mode, apply_transform, can_follow

Direction = Literal["moving to fixed", "fixed to moving"]


def transform_nodes(nodes: Iterable[Any], transform_node: Any, mode: Mode, direction: Direction) -> Undo:
    """Transform nodes of one volume to the other one.

    Args:
        nodes: volumes, label maps, segmentations, markups and models in the space of one volume, each with its own
            parent transforms.
        transform_node: the registration.
        mode: "resample" into new nodes on the grid of the other volume, or "attach" to the transform.
        direction: "moving to fixed" with the registration; "fixed to moving" with its inverse, where the moving
            volume lies now.

    Returns:
        The undo step, with the volumes of resampled segments.

    Raises:
        BridgeError: the registration or a node cannot be used; then nothing is changed.
    """
    if problem := why_nothing_follows(transform_node, mode, direction):
        raise BridgeError(problem)
    nodes = list(nodes)
    check_followers(nodes, mode)
    if direction == "moving to fixed":
        return apply_transform(nodes, transform_node, fixed_of(transform_node), mode=mode)
    moving, inverse = moving_of(transform_node), inverse_of(transform_node)
    suffix = f" on {moving.GetName()}" if moving is not None else ""
    return apply_transform(nodes, inverse, moving, mode=mode, suffix=suffix, inverse_of=transform_node)


def why_nothing_follows(transform_node: Any, mode: Mode, direction: Direction = "moving to fixed") -> str:
    """Return why a transform node cannot be applied to nodes of a volume, and what to do; empty if it can.

    Args:
        transform_node: any node, or None.
        mode: "attach" works under any transform; "resample" needs the volume whose grid the nodes get.
        direction: see `transform_nodes`.
    """
    if direction not in get_args(Direction):
        return f"The direction must be {' or '.join(map(repr, get_args(Direction)))}, not {direction!r}."
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
    if direction == "fixed to moving" and inverse_of(transform_node) is None:
        return f"'{name}' has no inverse in the scene; register again, or transform from moving to fixed."
    return "" if mode == "attach" else _why_no_grid(transform_node, direction)


def _why_no_grid(transform_node: Any, direction: Direction) -> str:
    """Return why there is nothing to resample onto."""
    if direction == "moving to fixed":
        side, volume = "fixed", fixed_of(transform_node)
        role = slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole()
    else:
        side, volume = "moving", moving_of(transform_node)
        role = slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole()
    name = transform_node.GetName()
    if volume is None and transform_node.GetNodeReferenceID(role):
        return f"The {side} volume of '{name}' is no longer in the scene; load it again, or attach instead."
    if volume is None:
        return f"'{name}' has no {side} volume; attach instead, or choose a registration."
    if volume.GetImageData() is None:
        return f"The {side} volume '{volume.GetName()}' of '{name}' has no voxels; load it again, or attach instead."
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
