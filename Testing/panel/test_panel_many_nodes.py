"""A scene with hundreds of nodes: adding and removing some must not make the panel look at every other each time."""

from __future__ import annotations

from typing import Any

import pytest
import slicer
from driving import choose_pair
from PySide6.QtCore import Qt

MANY = 400


@pytest.fixture
def counted(panel: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the panel looked up a check mark, and how often it showed what has changed."""
    from FoundationRegistrationBridge.scene.changes import batch

    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    with batch(slicer.mrmlScene):
        for number in range(MANY):
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", f"surface {number}")
    slicer.app.processEvents()
    counts = {"looked up": 0, "shown": 0}
    selector, result = type(panel.ui.followSelector), panel._result
    look, show = selector.checkState, result.show

    def looked_up(self: Any, node: Any) -> Any:
        counts["looked up"] += getattr(self, "_answering", True)
        return look(self, node)

    def rebuilt(self: Any) -> None:  # the stand-in's own look-ups are not the panel's
        self._answering = False
        rebuild(self)
        self._answering = True

    def shown(parameters: Any, **state: Any) -> None:
        counts["shown"] += 1
        show(parameters, **state)

    rebuild = selector.rebuild
    monkeypatch.setattr(selector, "rebuild", rebuilt)
    monkeypatch.setattr(selector, "checkState", looked_up)
    monkeypatch.setattr(result, "show", shown)
    return counts


def test_many_events_are_answered_once_and_look_up_no_follower(panel: Any, counted: dict[str, int]) -> None:
    added = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "new") for _ in range(5)]
    for node in added:
        slicer.mrmlScene.RemoveNode(node)
    assert counted == {"looked up": 0, "shown": 0}
    slicer.app.processEvents()
    assert counted == {"looked up": 0, "shown": 1}


def test_a_check_mark_looks_up_every_follower_once(panel: Any, counted: dict[str, int]) -> None:
    node = slicer.util.getNode("surface 7")
    panel.ui.followSelector.setCheckState(node, Qt.CheckState.Checked)
    assert panel._movesAlong.nodes() == [node]
    assert MANY <= counted["looked up"] < 2 * MANY
    slicer.mrmlScene.RemoveNode(node)
    assert panel._movesAlong.nodes() == []


def test_what_needs_a_removed_node_is_switched_off(panel: Any, pair: Any, qtbot: Any) -> None:
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    assert panel.ui.applyButton.enabled
    slicer.mrmlScene.RemoveNode(pair["moving"])
    qtbot.waitUntil(lambda: not panel.ui.applyButton.enabled)
