"""Undo in the panel: as many steps as were made, and in words what it leaves."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util
import vtk
from driving import click, unfold


def test_undo_goes_back_step_by_step_and_leaves_what_was_changed(
    panel: Any, pair: dict[str, Any], scene: Any
) -> None:
    from FoundationRegistrationBridge.scene.transforms import name_run

    ui = panel.ui
    unfold(ui.alongSection)
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    name_run(transform, pair["fixed"], pair["moving"])
    clips = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clips")
    clips.AddControlPoint(vtk.vtkVector3d(1.0, 2.0, 3.0))
    panel._parameterNode.resultTransform = transform
    ui.followSelector.setCheckState(clips, qt.Qt.Checked)
    assert not ui.undoFollowButton.enabled
    for _ in range(3):
        click(ui.followButton)
    names = ["clips registered", "clips registered_1", "clips registered_2"]
    assert all(slicer.util.getNodes(name) for name in names)
    slicer.util.getNode(names[1]).SetName("final")
    click(ui.undoFollowButton)
    assert not slicer.util.getNodes(names[2])
    click(ui.undoFollowButton)
    assert slicer.util.getNodes("final") and "'final' has been changed" in ui.logText.plainText
    scene.RemoveNode(slicer.util.getNode(names[0]))
    click(ui.undoFollowButton)
    assert not ui.undoFollowButton.enabled
    click(ui.followButton)
    assert ui.undoFollowButton.enabled
    scene.Clear(False)
    assert panel.logic.undo == []
