"""The whole job by clicks: real nodes, the real engine in its own process."""

from __future__ import annotations

from typing import Any

import psutil
import pytest
import qt
import slicer
import slicer.util
from driving import choose, choose_pair, click, press, unfold
from stand_in_nodes import landmark_error, scene_state

PATIENCE_MS = 300_000


@pytest.fixture
def breast(scene: Any) -> dict[str, Any]:
    """A breast at two dates; the fixed volume is stored sagittally, the grids differ."""
    from FoundationRegistrationPanel.sample_data import add_phantom

    return add_phantom("longitudinal", spacing_mm=7.0)


def choose_fast_job(panel: Any, breast: dict[str, Any]) -> None:
    ui = panel.ui
    choose_pair(ui, breast["fixed"], breast["moving"])
    choose(ui.taskSelector, "Longitudinal MRI")
    choose(ui.initializationSelector, "Centre of mass")
    unfold(ui.advancedSection)
    ui.working_spacing_mmSetting.value = 7.0
    ui.iterationsSetting.value = 30
    unfold(ui.outputsSection)
    click(ui.featurePreviewCheckBox)


def test_register_look_and_cancel(panel: Any, breast: dict[str, Any], qtbot: Any) -> None:
    ui = panel.ui
    choose_fast_job(panel, breast)
    unfold(ui.alongSection)
    followers = [breast["moving_labels"], breast["moving_points"]]
    for node in followers:
        ui.followSelector.setCheckState(node, qt.Qt.Checked)
    before = landmark_error(breast["fixed_points"], breast["moving_points"])

    # Register: percent and words grow, the panel stays alive, the button would cancel.
    percents, words = [], set()

    def shown(percent: int) -> None:  # all that is shown, however seldom a busy machine lets this test look
        percents.append(percent)
        words.add(ui.stepNote.text.split(" - ")[0])

    ui.progressBar.connect("valueChanged(int)", shown)
    click(ui.applyButton)
    assert ui.applyButton.text == "Cancel" and ui.progressBar.visible
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=PATIENCE_MS)
    assert percents == sorted(percents) and len(set(percents)) > 3
    assert len(words) > 3, "steps may be too quick to be seen, but not most of them"
    assert not ui.progressBar.visible
    assert not ui.logText.visible, "the Result section says all there is to say of a good run"
    unfold(ui.detailsSection)
    assert ui.runLogText.visible and "time: " in ui.runLogText.plainText

    # The transform and the volume are there, and what was checked has followed onto the fixed volume.
    transform = ui.resultTransformSelector.currentNode()
    registered = slicer.util.getNode(f"{breast['moving_points'].GetName()} registered")
    assert landmark_error(breast["fixed_points"], registered) < 0.4 * before
    assert transform.GetTransformToParent() is not None
    volume = ui.resultVolumeSelector.currentNode()
    assert volume.GetImageData().GetDimensions() == breast["fixed"].GetImageData().GetDimensions()
    assert slicer.util.getNode(f"{breast['moving_labels'].GetName()} registered").GetParentTransformNode() is None
    assert "earlier run" in ui.estimateNote.text

    look_at_result(panel, breast, qtbot)

    # Undo, then a second run that is cancelled: nothing of it stays.
    click(ui.undoFollowButton)
    assert slicer.util.getNodes("*points registered") == {} and not ui.undoFollowButton.enabled
    before_cancel = scene_state()
    click(ui.applyButton)
    qtbot.waitUntil(lambda: ui.progressBar.value > 0, timeout=PATIENCE_MS)
    click(ui.applyButton)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=5_000)
    assert "is unchanged" in ui.logText.plainText
    assert scene_state() == before_cancel
    assert ui.verdictNote.text == "No result: the run was cancelled."
    assert not ui.figuresNote.visible and not ui.qualityBox.visible and not ui.waysBox.visible
    assert ui.resultTransformSelector.currentNode() is None and not ui.compareSelector.enabled


def look_at_verdict(ui: Any, composite: Any, breast: dict[str, Any], qtbot: Any) -> None:
    """The verdict comes first, and a fade runs by itself until it is held or stopped."""
    assert not ui.resultSection.collapsed and ui.verdictNote.visible and "Folds" in ui.figuresNote.text
    assert ui.compareSelector.currentText == "fade" and ui.stopButton.enabled
    assert composite.GetBackgroundVolumeID() == breast["fixed"].GetID()
    shown = composite.GetForegroundOpacity()
    qtbot.waitUntil(lambda: composite.GetForegroundOpacity() != shown, timeout=5_000)
    ui.compareSlider.triggerAction(qt.QSlider.SliderPageStepAdd)  # as a click beside the handle
    held = ui.compareSlider.value
    qtbot.wait(200)
    assert ui.compareSlider.value == held
    press(ui.compareSlider, "Alt+Up")
    qtbot.waitUntil(lambda: ui.compareSlider.value != held, timeout=5_000)
    press(ui.compareSlider, "Alt+Right")
    held = ui.compareSlider.value
    qtbot.wait(200)
    assert ui.compareSlider.value == held
    click(ui.stopButton)
    assert ui.compareSelector.currentText == "off" and not ui.stopButton.enabled
    assert composite.GetForegroundVolumeID() != ui.resultVolumeSelector.currentNode().GetID()


def look_at_result(panel: Any, breast: dict[str, Any], qtbot: Any) -> None:
    ui = panel.ui
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    look_at_verdict(ui, composite, breast, qtbot)
    composite.SetBackgroundVolumeID(breast["moving"].GetID())

    choose(ui.compareSelector, "fade")
    ui.compareSlider.value = 25
    assert composite.GetBackgroundVolumeID() == breast["fixed"].GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.25)
    choose(ui.compareSelector, "checkerboard")
    choose(ui.compareSelector, "flicker")
    shown = composite.GetForegroundOpacity()
    qtbot.waitUntil(lambda: composite.GetForegroundOpacity() != shown, timeout=5_000)
    choose(ui.compareSelector, "features")
    assert slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID()).IsA("vtkMRMLVectorVolumeNode")
    choose(ui.mapSelector, "Jacobian")  # one view at a time: the comparison ends
    assert ui.compareSelector.currentText == "off" and "Jacobian" in _name(composite.GetForegroundVolumeID())
    choose(ui.mapSelector, "expected error")
    assert "expected error" in _name(composite.GetForegroundVolumeID())
    choose(ui.mapSelector, "off")
    assert composite.GetBackgroundVolumeID() == breast["moving"].GetID()

    choose(ui.displacementSelector, "grid")
    display = ui.resultTransformSelector.currentNode().GetDisplayNode()
    assert display.GetVisibility() and display.GetVisibility2D()
    choose(ui.displacementSelector, "off")
    assert not display.GetVisibility()

    unfold(ui.petSection)
    # Any volume that goes with the moving one can stand for its PET here.
    choose(ui.petVolumeSelector, breast["moving"].GetName())
    click(ui.petButton)
    assert ui.petButton.text == "Hide"
    ui.petOpacitySlider.value = 30
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    choose(ui.compareSelector, "fade")  # one view at a time: the overlay ends
    assert ui.petButton.text == "Show"
    choose(ui.compareSelector, "off")
    assert composite.GetBackgroundVolumeID() == breast["moving"].GetID()

    unfold(ui.qualitySection)
    choose(ui.fixedLabelsSelector, breast["fixed_labels"].GetName())
    choose(ui.movingLabelsSelector, breast["moving_labels"].GetName())
    choose(ui.fixedPointsSelector, breast["fixed_points"].GetName())
    choose(ui.movingPointsSelector, breast["moving_points"].GetName())
    click(ui.qualityButton)
    table = ui.qualityTable
    text = " ".join(
        table.item(row, column).text() for row in range(table.rowCount) for column in range(table.columnCount)
    )
    for measure in ("Dice", "HD95", "TRE", "breast"):
        assert measure in text


def _name(node_id: str) -> str:
    return slicer.mrmlScene.GetNodeByID(node_id).GetName()


@pytest.mark.parametrize("change", ["moving volume removed", "scene closed"])
def test_what_goes_during_the_run_ends_it_in_words(panel: Any, pair: dict[str, Any], qtbot: Any, change: str) -> None:
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    click(panel.ui.applyButton)
    if change == "scene closed":
        slicer.mrmlScene.Clear(False)
    else:
        slicer.mrmlScene.RemoveNode(pair["moving"])
    before = scene_state()
    qtbot.waitUntil(lambda: panel.ui.applyButton.text == "Register", timeout=10_000)
    assert "was removed during the registration" in panel.ui.logText.plainText
    assert scene_state() == before
    expected = "Load two images" if change == "scene closed" else "Choose the moving image"
    assert not panel.ui.applyButton.enabled and expected in panel.ui.statusNote.text


def test_leaving_the_application_ends_the_run(panel: Any, pair: dict[str, Any]) -> None:
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    before = psutil.Process().children(recursive=True)
    click(panel.ui.applyButton)
    engine = [process for process in psutil.Process().children(recursive=True) if process not in before]
    assert engine
    panel.cleanup()
    assert not [process for process in engine if process.is_running()]


def test_self_test_of_the_module_passes(module: Any, scene: Any) -> None:
    module.FoundationRegistrationTest().runTest()
