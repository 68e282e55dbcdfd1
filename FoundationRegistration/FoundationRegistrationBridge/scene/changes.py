"""Atomic changes of a scene: all or none. Undo by the user is in `undo.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer

_HELPERS = ("display", "storage")


class SceneChanges:
    """Nodes that were added, and nodes that got another parent.

    Args:
        scene: the scene to change.
    """

    def __init__(self, scene: Any) -> None:
        self.created: list[Any] = []
        self._scene = scene
        self._parents: list[tuple[Any, str | None]] = []

    def add(self, node: Any, name: str) -> Any:
        """Add a node that is in no scene yet, under a unique name."""
        node.SetName(self._scene.GenerateUniqueName(name))
        self._scene.AddNode(node)
        self.created.append(node)
        return node

    def add_displayed(self, node: Any, name: str, looks_like: Any | None = None) -> Any:
        """Add a displayable node with display nodes, with the appearance of another node of its type."""
        self.add(node, name)
        node.CreateDefaultDisplayNodes()
        display, model = node.GetDisplayNode(), looks_like.GetDisplayNode() if looks_like else None
        if display is not None and model is not None and display.GetClassName() == model.GetClassName():
            display.CopyContent(model)
            if model.GetColorNodeID():
                display.SetAndObserveColorNodeID(model.GetColorNodeID())
        return node

    def set_parent(self, node: Any, parent: Any) -> None:
        """Put a node under a transform node, or none."""
        self._parents.append((node, node.GetTransformNodeID()))
        node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)

    def undo(self) -> None:
        """Undo all changes of nodes that are still in the scene; a second call does nothing."""
        with batch(self._scene):
            while self._parents:
                node, parent_id = self._parents.pop()
                if self._scene.IsNodePresent(node):
                    present = parent_id is not None and self._scene.GetNodeByID(parent_id) is not None
                    node.SetAndObserveTransformNodeID(parent_id if present else None)
            while self.created:
                remove_with_helpers(self._scene, self.created.pop())


def remove_with_helpers(scene: Any, node: Any) -> None:
    """Remove a node with its own display and storage nodes, if they still exist."""
    if not scene.IsNodePresent(node):
        return
    helpers = [node.GetNthNodeReference(role, 0) for role in _HELPERS]
    scene.RemoveNode(node)
    for helper in helpers:
        if helper is not None and scene.IsNodePresent(helper):
            scene.RemoveNode(helper)


@contextmanager
def batch(scene: Any) -> Iterator[None]:
    """Delay view updates until several changes are made."""
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        yield
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


@contextmanager
def all_or_nothing(scene: Any) -> Iterator[SceneChanges]:
    """Yield changes to make; all are undone if the block fails."""
    changes = SceneChanges(scene)
    with batch(scene):
        try:
            yield changes
        except BaseException:
            changes.undo()
            raise
