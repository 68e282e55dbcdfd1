"""Watches for nodes put under a registration by hand, to detect later whether it was hardened."""

from __future__ import annotations

import weakref
from typing import Any

import slicer
import slicer.util
import vtk

from ..nodes.spaces import chain
from .marks import is_registration, mark_attached, mark_of

_WATCHED: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_attachments(scene: Any) -> None:
    """Mark each node of a scene once it is under a registration, like `follow/apply.py` does when attaching.

    All nodes of the scene are watched, including later ones. A scene is watched once, however often this is called.
    """
    if scene in _WATCHED:
        return
    _WATCHED.add(scene)
    for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode", scene):
        _watch(node)
    scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, _on_node_added)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _on_node_added(_scene: Any, _event: str, node: Any) -> None:
    if node.IsA("vtkMRMLDisplayableNode"):
        _watch(node)


def _watch(node: Any) -> None:
    node.AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, _mark_if_attached)
    _mark_if_attached(node)


def _mark_if_attached(node: Any, _event: str = "") -> None:
    if node.IsA("vtkMRMLTransformNode"):
        return
    for above in chain(node.GetParentTransformNode()):
        if is_registration(above) and mark_of(node, above) is None:
            mark_attached(node, above, node.GetParentTransformNode())
