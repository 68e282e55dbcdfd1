"""The section *What moves along* offers the moving side only; what is checked stays so as long as it is of it."""

from __future__ import annotations

from typing import Any

import pytest
import qt
import slicer
import slicer.util
import vtk
from driving import choose, choose_pair, click, unfold


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


@pytest.fixture
def tumour(pair: dict[str, Any]) -> Any:
    """A segmentation drawn on the moving volume."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "tumour in CT")
    node.GetSegmentation().AddEmptySegment("tumour")
    node.SetReferenceImageGeometryParameterFromVolumeNode(pair["moving"])
    return node


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("change", ["moving", "swap", "direction", "fixed"])
def test_what_is_checked_is_unchecked_for_another_image(
    panel: Any, pair: dict[str, Any], marks: dict[str, Any], tumour: Any, change: str, *, folded: bool
) -> None:
    ui, scene = panel.ui, slicer.mrmlScene
    other = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "another CT")
    other.SetAndObserveImageData(pair["moving"].GetImageData())
    if change == "swap":
        choose_pair(ui, pair["moving"], pair["fixed"], "PET/CT to MRI")
        tumour.SetReferenceImageGeometryParameterFromVolumeNode(pair["fixed"])
    else:
        choose_pair(ui, pair["fixed"], pair["moving"])
    unfold(ui.alongSection)
    for node in (tumour, marks["clips"]):
        ui.followSelector.setCheckState(node, qt.Qt.Checked)
    ui.alongSection.collapsed = folded
    match change:
        case "moving":
            choose(ui.movingVolumeSelector, "Choose an image")
            choose(ui.movingVolumeSelector, "another CT")
        case "swap":
            click(ui.swapButton)
        case "direction":
            choose(ui.followDirectionSelector, "Fixed to moving")
        case "fixed":
            choose(ui.fixedVolumeSelector, "another CT")
    kept = [marks["clips"], tumour] if change == "fixed" else []
    assert panel._movesAlong.nodes() == kept
    assert ui.alongSection.text == f"What moves along: {'2 nodes' if kept else 'none'}"
    unfold(ui.alongSection)
    assert ("tumour in CT" in offered(ui)) is (change in ("fixed", "moving")), "it overlaps another moving image"


def test_what_is_in_the_study_of_both_moving_images_stays_checked(
    panel: Any, pair: dict[str, Any], marks: dict[str, Any]
) -> None:
    ui = panel.ui
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "today")
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "second CT")
    second.SetAndObserveImageData(pair["moving"].GetImageData())
    for node in (pair["moving"], second, marks["clips"]):
        hierarchy.CreateItem(study, node)
    choose_pair(ui, pair["fixed"], pair["moving"])
    unfold(ui.alongSection)
    ui.followSelector.setCheckState(marks["clips"], qt.Qt.Checked)
    choose(ui.movingVolumeSelector, "second CT")
    assert panel._movesAlong.nodes() == [marks["clips"]]
