"""What can follow a registration and what cannot: said before the click, and in words in the console."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk
from driving import choose, click, unfold
from stand_in_nodes import scene_state

QUICK = {"encoder": "mind", "working_spacing_mm": 2.0, "initialization": "none", "iterations": 2}


@pytest.fixture
def errors(module: Any) -> Any:
    from FoundationRegistrationBridge.errors import BridgeError

    return BridgeError


@pytest.fixture
def logic(module: Any) -> Any:
    return module.FoundationRegistrationLogic()


@pytest.fixture
def registration(pair: dict[str, Any]) -> Any:
    """A registration with its inverse, as a run leaves them."""
    from FoundationRegistrationBridge.scene.transforms import INVERSE_ROLE, store_record

    forward, inverse = (
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name) for name in ("CT to MRI", "the inverse")
    )
    store_record(forward, {}, pair["fixed"], pair["moving"])
    forward.SetNodeReferenceID(INVERSE_ROLE, inverse.GetID())
    return forward


@pytest.fixture
def contours(scene: Any) -> Any:
    """Points that belong to the moving volume."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clips")
    node.AddControlPoint(vtk.vtkVector3d(1.0, 2.0, 3.0), "clip")
    return node


def sequence_nodes(scene: Any) -> list[Any]:
    nodes = [slicer.vtkMRMLSequenceNode(), slicer.vtkMRMLSequenceBrowserNode()]
    for node, name in zip(nodes, ("DCE", "DCE browser"), strict=True):
        node.SetName(name)
        scene.AddNode(node)
    return nodes


def test_transform_now_says_what_is_missing_and_works_once_it_is_there(
    panel: Any, registration: Any, contours: Any
) -> None:
    ui = panel.ui
    unfold(ui.resultSection)
    unfold(ui.alongSection)

    def refused(words: str) -> bool:
        return not ui.followButton.enabled and words in ui.followButton.toolTip

    assert refused("no registration to apply")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "of another tool")
    choose(ui.resultTransformSelector, "CT to MRI")
    assert refused("check the nodes to transform")
    ui.followSelector.setCheckState(contours, qt.Qt.Checked)
    assert ui.followButton.enabled
    choose(ui.resultTransformSelector, "the inverse")
    assert refused("'the inverse' is the inverse of 'CT to MRI'")
    choose(ui.resultTransformSelector, "of another tool")
    assert refused("has no fixed volume") and not ui.petButton.enabled
    choose(ui.followModeSelector, "Attach transform")  # needs no fixed volume
    click(ui.followButton)
    assert contours.GetParentTransformNode().GetName() == "of another tool"
    click(ui.undoFollowButton)
    choose(ui.followModeSelector, "Resample")
    choose(ui.resultTransformSelector, "CT to MRI")
    click(ui.followButton)
    assert slicer.util.getNode("clips registered")


def test_what_needs_the_fixed_volume_is_off_as_soon_as_it_is_gone(
    panel: Any, pair: dict[str, Any], registration: Any, contours: Any
) -> None:
    ui = panel.ui
    unfold(ui.resultSection)
    unfold(ui.alongSection)
    choose(ui.resultTransformSelector, "CT to MRI")
    choose(ui.petVolumeSelector, pair["moving"].GetName())
    ui.followSelector.setCheckState(contours, qt.Qt.Checked)
    assert ui.followButton.enabled and ui.petButton.enabled and ui.qualityButton.enabled
    slicer.mrmlScene.RemoveNode(pair["fixed"])
    slicer.app.processEvents()
    assert not ui.followButton.enabled and "'CT to MRI' has no fixed volume" in ui.followButton.toolTip
    for widget in (ui.petButton, ui.qualityButton, ui.displacementSelector, ui.saveFieldButton):
        assert not widget.enabled


def test_the_displacement_field_is_saved_where_the_user_says(
    panel: Any, registration: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, names = panel.ui, ["", str(tmp_path / "field.nii.gz"), str(tmp_path / "field.tfm")]
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *given: names.pop(0), raising=False)
    unfold(ui.resultSection)
    unfold(ui.alongSection)
    unfold(ui.detailsSection)
    choose(ui.resultTransformSelector, "CT to MRI")
    for _ in range(2):  # the first time, the dialog is closed without a name
        click(ui.saveFieldButton)
    assert [path.name for path in tmp_path.iterdir()] == ["field.nii.gz"]
    click(ui.saveFieldButton)
    assert "'field.tfm' cannot hold a displacement field" in ui.logText.plainText


def test_checked_node_that_cannot_follow_is_named_instead_of_left_out(panel: Any, registration: Any) -> None:
    ui = panel.ui
    unfold(ui.resultSection)
    unfold(ui.alongSection)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "not loaded")
    choose(ui.resultTransformSelector, "CT to MRI")
    ui.followSelector.setCheckState(empty, qt.Qt.Checked)
    click(ui.followButton)
    assert "'not loaded' has no voxels" in ui.logText.plainText


@pytest.mark.parametrize("mode", ["resample", "attach"])
def test_console_refuses_in_words_whatever_is_given(
    logic: Any, errors: Any, pair: dict[str, Any], registration: Any, contours: Any, mode: str
) -> None:
    scene = slicer.mrmlScene
    inverse, other = slicer.util.getNode("the inverse"), scene.AddNewNodeByClass("vtkMRMLTransformNode", "other")
    removed = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "removed")
    scene.RemoveNode(removed)
    sequence, browser = sequence_nodes(scene)
    text = scene.AddNewNodeByClass("vtkMRMLTextNode", "text")
    before = scene_state()
    cases = [
        ([contours], None, "no registration to apply"),
        ([contours], inverse, "choose 'CT to MRI'"),
        ([contours], pair["fixed"], "not a transform"),
        ([contours, sequence], registration, "'DCE' is a sequence.*proxy"),
        ([browser], registration, "'DCE browser' is a sequence"),
        ([text], registration, "'text' is of a type that can neither be resampled nor put under"),
        ([contours, removed], registration, "'removed' is no longer in the scene"),
        ([None], registration, "no longer in the scene"),
    ]
    if mode == "resample":
        cases.append(([contours], other, "'other' has no fixed volume"))
    for nodes, transform, words in cases:
        with pytest.raises(errors, match=words):
            logic.transformNodes(nodes, transform, mode)
        assert scene_state() == before


def test_sequence_as_a_volume_is_called_what_it_is(logic: Any, errors: Any, pair: dict[str, Any]) -> None:
    sequence, _ = sequence_nodes(slicer.mrmlScene)
    before = scene_state()
    for fixed, moving, role in ((sequence, pair["moving"], "fixed"), (pair["fixed"], sequence, "moving")):
        with pytest.raises(
            errors, match=f"'DCE' is a sequence; choose the volume that its browser shows as the {role}"
        ):
            logic.register(fixed, moving, **QUICK)
    assert scene_state() == before


def test_console_is_told_of_a_follower_before_the_run_or_after_it(
    logic: Any, errors: Any, pair: dict[str, Any], contours: Any
) -> None:
    scene = slicer.mrmlScene
    text = scene.AddNewNodeByClass("vtkMRMLTextNode", "text")
    before = scene_state()
    with pytest.raises(errors, match="'text' is of a type"):
        logic.register(pair["fixed"], pair["moving"], follow=[text], **QUICK)
    assert scene_state() == before

    def lose_the_follower(step: str, fraction: float, remaining: float | None) -> None:
        if contours.GetScene() is not None:
            scene.RemoveNode(contours)

    with pytest.raises(errors, match=r"registration is done \('CT to MRI'\), but no node was transformed: 'clips'"):
        logic.register(pair["fixed"], pair["moving"], follow=[contours], onProgress=lose_the_follower, **QUICK)
    transform = slicer.util.getNode("CT to MRI")
    assert transform.GetTransformToParent() is not None

    ends: list[tuple[Any, str | None, bool]] = []
    again = scene.AddNode(contours)
    logic.register(
        pair["fixed"],
        pair["moving"],
        follow=[again],
        outputTransform=transform,
        onFinished=lambda *end: ends.append(end),
        **QUICK,
    )
    assert ends[0][0].transform_node is transform and ends[0][1:] == (None, False)
    assert slicer.util.getNode("clips registered")


def _raise(*_: Any) -> None:
    raise ZeroDivisionError


def _in_a_slot(panel: Any, qtbot: Any) -> None:
    panel.ui.compareSlider.connect("valueChanged(int)", _raise)
    panel.ui.compareSlider.value += 1


def _in_a_timer(panel: Any, qtbot: Any) -> None:
    qt.QTimer.singleShot(0, _raise)
    qtbot.wait(20)


def _in_an_observer(panel: Any, qtbot: Any) -> None:
    slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, _raise)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    slicer.mrmlScene.RemoveObservers(slicer.mrmlScene.NodeAddedEvent)


def _in_a_thread(panel: Any, qtbot: Any) -> None:
    thread = threading.Thread(target=_raise)
    thread.start()
    thread.join()


def _where_errors_are_shown_in_words(panel: Any, qtbot: Any) -> None:
    def slot(value: int) -> None:
        with panel._errorsInWords():
            _raise()

    panel.ui.compareSlider.connect("valueChanged(int)", slot)
    panel.ui.compareSlider.value += 1


@pytest.mark.xfail(
    strict=True,
    raises=(pytest.fail.Exception, pytest.PytestUnhandledThreadExceptionWarning),
    reason="an exception that Qt or VTK swallows has to fail a test; this shows that it does",
)
@pytest.mark.parametrize(
    "raising", [_in_a_slot, _in_a_timer, _in_an_observer, _in_a_thread, _where_errors_are_shown_in_words]
)
def test_what_is_swallowed_fails_a_test(panel: Any, qtbot: Any, raising: Any) -> None:
    raising(panel, qtbot)


def test_values_of_a_pet_are_judged_in_words(panel: Any, pair: dict[str, Any], registration: Any) -> None:
    from FoundationRegistrationBridge.nodes.grids import image_from_array
    from FoundationRegistrationBridge.nodes.pet_units import mark_as_suv

    ui = panel.ui
    unfold(ui.resultSection)
    unfold(ui.alongSection)
    unfold(ui.petSection)
    choose(ui.resultTransformSelector, "CT to MRI")
    pet = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "PET")
    pet.SetAndObserveImageData(image_from_array(np.full((8, 9, 10), 5230.0, np.float32)))
    choose(ui.petVolumeSelector, "PET")
    click(ui.petButton)
    assert ui.petNote.visible and "beyond any SUV" in ui.petNote.text
    click(ui.petButton)
    assert not ui.petNote.visible
    mark_as_suv(pet)
    click(ui.petButton)
    assert ui.petButton.text == "Hide" and not ui.petNote.visible
    click(ui.petButton)
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("Bq/ml", "UCUM", "Becquerels/milliliter")
    pet.SetVoxelValueUnits(units)
    click(ui.petButton)
    assert ui.petButton.text == "Hide" and "is in Becquerels/milliliter, not SUV" in ui.petNote.text
    assert "from 1.87e+04 to 7.47e+04" in ui.petNote.text
    ui.petUpperSpinBox.value = 20.0
    assert "from 1.87e+04 to 1.49e+05" in ui.petNote.text
