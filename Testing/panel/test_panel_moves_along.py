"""The section *What moves along* offers the moving side only, and what was checked stays checked."""

from __future__ import annotations

from typing import Any

import pytest
import qt
import slicer
import slicer.util
import vtk
from driving import choose, click, unfold


@pytest.fixture
def marks(scene: Any) -> dict[str, Any]:
    """Points at the place of both volumes, and far away."""
    made = {}
    for name, position in (("clips", (1.0, 2.0, 3.0)), ("far away", (900.0, 0.0, 0.0))):
        made[name] = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        made[name].AddControlPoint(vtk.vtkVector3d(position))
    return made


def offered(ui: Any) -> set[str]:
    return {node.GetName() for node in ui.followSelector.nodes()}


def test_only_the_moving_side_is_offered(panel: Any, pair: dict[str, Any], marks: dict[str, Any]) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    ui = panel.ui
    choose(ui.fixedVolumeSelector, "MRI")
    choose(ui.movingVolumeSelector, "CT")
    unfold(ui.alongSection)
    assert offered(ui) == {"CT", "structures", "clips"}
    choose(ui.fixedMaskSelector, "structures")  # so they are of the fixed image
    assert offered(ui) == {"CT", "clips"}
    choose(ui.movingVolumeSelector, "Choose an image")
    assert "far away" in offered(ui)
    result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    store_record(result, {}, pair["fixed"], pair["moving"])
    choose(ui.resultTransformSelector, "CT to MRI")
    assert offered(ui) == {"CT", "clips"}, "the registration under Result says which side moves"
    later = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "drawn later")
    later.AddControlPoint(vtk.vtkVector3d(2.0, 2.0, 2.0))
    assert "drawn later" in offered(ui)


def test_what_is_checked_stays_offered_and_checked(panel: Any, pair: dict[str, Any], marks: dict[str, Any]) -> None:
    ui = panel.ui
    unfold(ui.alongSection)
    for node in marks.values():
        ui.followSelector.setCheckState(node, qt.Qt.Checked)
    choose(ui.fixedVolumeSelector, "MRI")
    choose(ui.movingVolumeSelector, "CT")
    assert {"clips", "far away"} <= offered(ui)
    assert ui.followSelector.checkState(marks["far away"]) == qt.Qt.Checked
    assert ui.alongSection.text == "What moves along: 2 nodes"
    ui.followSelector.setCheckState(marks["far away"], qt.Qt.Unchecked)
    assert "far away" not in offered(ui), "nor is it offered once it is unchecked"


def test_nothing_is_looked_up_while_the_section_is_closed(
    panel: Any, pair: dict[str, Any], marks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, "MRI")
    choose(ui.movingVolumeSelector, "CT")
    looked_up: list[Any] = []
    listed = type(panel._movesAlong)._listed
    monkeypatch.setattr(type(panel._movesAlong), "_listed", lambda self: looked_up.append(1) or listed(self))
    for number in range(5):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", f"model {number}")
    assert not looked_up
    unfold(ui.alongSection)
    assert looked_up


def test_the_other_direction_brings_the_fixed_side_onto_the_moving_image(
    panel: Any, pair: dict[str, Any], marks: dict[str, Any]
) -> None:
    from FoundationRegistrationBridge.scene.transforms import INVERSE_ROLE, store_record

    ui, scene = panel.ui, slicer.mrmlScene
    result, inverse = (scene.AddNewNodeByClass("vtkMRMLTransformNode", name) for name in ("CT to MRI", "back"))
    move = vtk.vtkTransform()
    move.Translate(2.0, 0.0, 0.0)
    result.SetMatrixTransformToParent(move.GetMatrix())
    inverse.SetMatrixTransformToParent(move.GetLinearInverse().GetMatrix())
    store_record(result, {}, pair["fixed"], pair["moving"])
    store_record(inverse, {}, pair["moving"], pair["fixed"])
    result.SetNodeReferenceID(INVERSE_ROLE, inverse.GetID())
    choose(ui.resultTransformSelector, "CT to MRI")
    unfold(ui.alongSection)
    choose(ui.movingMaskSelector, "structures")
    assert offered(ui) == {"CT", "structures", "clips"}
    choose(ui.followDirectionSelector, "Fixed to moving")
    assert offered(ui) == {"MRI", "clips"}
    ui.followSelector.setCheckState(marks["clips"], qt.Qt.Checked)
    click(ui.followButton)
    brought = slicer.util.getNode("clips on CT")
    assert brought.GetNthControlPointPosition(0) == pytest.approx((-1.0, 2.0, 3.0))
