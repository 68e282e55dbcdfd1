"""Everything that a user could notice of a scene, as text to compare."""

from __future__ import annotations

from typing import Any


def display_state(scene: Any) -> tuple[list[str], str]:
    """Return the nodes there are, those that are not saved included, and the scene as it would be saved."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    return [node.GetID() for node in nodes], text
