"""Watches for nodes put under a registration by hand, to detect later whether it was hardened."""

from __future__ import annotations

from typing import Any

import slicer
import slicer.util
import vtk

from ..nodes.spaces import chain
from .marks import is_registration, mark_attached, mark_of


class AttachmentWatch:
    """Marks each node of a scene once it is under a registration, like `follow/apply.py` does when attaching.

    Args:
        scene: all its nodes are watched, including later ones.
    """

    def __init__(self, scene: Any) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode", scene):
            self._watch(node)
        scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, self._on_node_added)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _scene: Any, _event: str, node: Any) -> None:
        if node.IsA("vtkMRMLDisplayableNode"):
            self._watch(node)

    def _watch(self, node: Any) -> None:
        node.AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, _mark_if_attached)
        _mark_if_attached(node)


def _mark_if_attached(node: Any, _event: str = "") -> None:
    if node.IsA("vtkMRMLTransformNode"):
        return
    for above in chain(node.GetParentTransformNode()):
        if is_registration(above) and mark_of(node, above) is None:
            mark_attached(node, above, node.GetParentTransformNode())
