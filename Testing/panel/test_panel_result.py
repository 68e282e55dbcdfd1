"""The Result and Quality sections: what they say, and that nothing of an earlier registration stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk
from driving import choose, push, unfold
from stand_in_nodes import scene_state

RECORD = {
    "verdict": {"level": "check", "reasons": ["The expected error is 5.6 mm in the median."]},
    "messages": ["6 % of the patient lies outside."],
    "settings": {"encoder": "mind", "preset": "longitudinal"},
    "timings_seconds": {"encoding": 12.0, "fluid refinement": 48.0},
    "metrics": {
        "jacobian": {"folded_percent": 0.0, "mean": 0.8, "min": 0.5, "max": 1.25},
        "inverse_error_mm": {"mean": 0.02, "max": 0.39},
        "expected_error": {
            "median_mm": 5.6,
            "spread_mm": 12.3,
            "above_5_mm_percent": 58.0,
            "not_known_percent": 21.0,
        },
    },
}


@pytest.fixture
def result(panel: Any, pair: dict[str, Any]) -> Any:
    """A registration that needs a look, chosen in the panel."""
    from FoundationRegistrationBridge.scene.transforms import store_record

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    store_record(node, RECORD, pair["fixed"], pair["moving"])
    for role in ("fixed", "moving"):
        pair[role].CreateDefaultDisplayNodes()
        choose(getattr(panel.ui, f"{role}VolumeSelector"), pair[role].GetName())
    unfold(panel.ui.resultSection)
    unfold(panel.ui.qualitySection)
    choose(panel.ui.resultTransformSelector, "CT to MRI")
    choose(panel.ui.resultVolumeSelector, "CT")
    slicer.app.processEvents()
    return node


def test_verdict_then_comparison_then_figures_in_words(panel: Any, result: Any) -> None:
    ui = panel.ui
    shown = (
        ui.verdictNote,
        ui.reasonsNote,
        ui.waysBox,
        ui.compareSelector,
        ui.figuresNote,
        ui.detailsSection,
    )
    heights = [widget.mapTo(ui.resultSection, qt.QPoint(0, 0)).y() for widget in shown]
    assert heights == sorted(heights) and len(set(heights)) == len(shown)
    assert ui.verdictNote.text == "Check this result before you use it."
    assert "5.6 mm (median; 90 % below 12.3 mm), above 5 mm in 58 % of the anatomy, not known in 21 %" in (
        ui.figuresNote.text
    )
    assert "+25.0 % overall, -20 to +100 % locally" in ui.figuresNote.text, "from moving to fixed"
    assert ">none<" in ui.figuresNote.text
    assert ui.resultNote.text == RECORD["messages"][0]
    assert ui.detailsSection.collapsed and "It is no accuracy" in ui.detailsNote.text
    assert "60 s, of which fluid refinement 48 s" in ui.detailsNote.text


def test_good_result_needs_no_way_out(panel: Any, pair: dict[str, Any], result: Any) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    assert panel.ui.waysBox.visible
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    choose(panel.ui.compareSelector, "fade")
    assert composite.GetForegroundVolumeID() == pair["moving"].GetID()
    good = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "good")
    store_record(good, {**RECORD, "verdict": {"level": "good", "reasons": []}}, pair["fixed"], pair["moving"])
    choose(panel.ui.resultTransformSelector, "good")
    assert not panel.ui.waysBox.visible and not panel.ui.reasonsNote.visible
    assert panel.ui.compareSelector.currentText == "off", "the views do not go on showing another registration"
    assert composite.GetForegroundVolumeID() != pair["moving"].GetID()


def test_registration_is_compared_by_its_own_volume(panel: Any, pair: dict[str, Any], result: Any) -> None:
    from FoundationRegistrationBridge.nodes.grids import image_from_array
    from FoundationRegistrationBridge.scene.transforms import store_record

    ui, scene, tip = panel.ui, slicer.mrmlScene, panel.ui.compareSelector.toolTip
    volumes = {}
    for name in ("first", "second"):
        transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", name)
        store_record(transform, RECORD, pair["fixed"], pair["moving"])
        volumes[name] = volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{name}: registered volume")
        volume.SetAndObserveImageData(image_from_array(np.ones((8, 9, 10), np.float32)))
        volume.CreateDefaultDisplayNodes()
        transform.SetNodeReferenceID("FoundationRegistration.RegisteredVolume", volume.GetID())
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    for name in ("second", "first"):
        choose(ui.resultTransformSelector, name)
        assert ui.resultVolumeSelector.currentNode() is volumes[name]
        choose(ui.compareSelector, "fade")
        assert composite.GetForegroundVolumeID() == volumes[name].GetID()
    choose(ui.resultVolumeSelector, "CT")  # another one can still be chosen
    assert panel._parameterNode.resultVolume is pair["moving"] and ui.compareSelector.enabled
    scene.RemoveNode(volumes["second"])
    choose(ui.resultTransformSelector, "second")
    assert panel._parameterNode.resultVolume is None and not ui.compareSelector.enabled
    assert "no registered volume" in ui.compareSelector.toolTip and ui.mapSelector.isVisible()
    choose(ui.resultTransformSelector, "first")
    assert ui.compareSelector.enabled and ui.compareSelector.toolTip == tip


def test_displacement_is_that_of_the_chosen_registration(panel: Any, pair: dict[str, Any], result: Any) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record
    from FoundationRegistrationBridge.views.field_display import shown_displacement

    ui = panel.ui
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "other")
    store_record(other, RECORD, pair["fixed"], pair["moving"])
    for node in (result, other):
        node.SetAndObserveTransformToParent(vtk.vtkTransform())
    for text in ("grid", "arrows"):
        choose(ui.displacementSelector, text)
        assert (shown_displacement(result), ui.displacementSelector.currentText) == (text, text)
        choose(ui.resultTransformSelector, "other")
        assert (shown_displacement(result), ui.displacementSelector.currentText) == ("off", "off")
        choose(ui.displacementSelector, text)
        assert shown_displacement(other) == text
        choose(ui.taskSelector, "Contrast series")
        assert shown_displacement(other) == "off", "where nothing could hide it"
        choose(ui.taskSelector, "Other")
        choose(ui.resultTransformSelector, "CT to MRI")
        assert ui.displacementSelector.currentText == "off"
    choose(ui.displacementSelector, "grid")
    panel.exit()
    panel.enter()
    assert ui.displacementSelector.currentText == shown_displacement(result) == "grid"
    slicer.mrmlScene.RemoveNode(result)
    slicer.app.processEvents()
    assert ui.displacementSelector.currentText == "off"


def test_failed_run_leaves_nothing_of_an_earlier_one_in_the_section(panel: Any, result: Any, qtbot: Any) -> None:
    """A mask that lies nowhere makes the engine refuse."""
    ui = panel.ui
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    before = composite.GetBackgroundVolumeID()
    choose(ui.compareSelector, "fade")
    push(ui.qualityButton)
    assert ui.qualityBox.visible and composite.GetForegroundVolumeID()
    choose(ui.taskSelector, "Other")
    ui.working_spacing_mmSetting.value = 20.0  # of these volumes nothing is left on such a grid
    push(ui.applyButton)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=60_000)
    assert ui.verdictNote.text == "No result: the run failed."
    assert ui.reasonsNote.text and ui.reasonsNote.text in ui.logText.plainText
    for widget in (ui.figuresNote, ui.resultNote, ui.qualityBox, ui.detailsNote):
        assert not widget.visible
    assert ui.compareSelector.currentText == "off" and composite.GetBackgroundVolumeID() == before
    assert ui.resultTransformSelector.currentNode() is None and ui.waysBox.visible
    unfold(ui.detailsSection)
    assert ui.runLogText.visible and ui.reasonsNote.text.split(";")[0] in ui.runLogText.plainText
    choose(ui.resultTransformSelector, "CT to MRI")  # the earlier one is still in the scene
    assert ui.verdictNote.text.startswith("Check")


def test_quality_is_copied_exported_and_plotted(
    panel: Any, result: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, path = panel.ui, tmp_path / "quality.csv"
    push(ui.qualityButton)
    slicer.app.processEvents()
    push(ui.copyQualityButton)
    assert qt.QApplication.clipboard().text().splitlines()[0] == "Measure\tStructure\tBefore\tAfter\tUnit"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *given: str(path), raising=False)
    push(ui.exportQualityButton)
    assert "Folded" in path.read_text(encoding="utf-8")
    assert not ui.plotButton.enabled, "there is nothing before and after without structures and landmarks"
    for side in ("fixed", "moving"):
        choose(getattr(ui, f"{side}LabelsSelector"), "structures")
    push(ui.qualityButton)
    choose(ui.plotSelector, "HD95")
    push(ui.plotButton)
    assert slicer.util.getNode("Plot of Quality of CT to MRI").GetYAxisTitle() == "HD95 (mm)"
    choose(ui.resultTransformSelector, "None yet")
    assert not ui.qualityBox.visible


def test_mask_and_another_method_are_prepared_and_explained(panel: Any, pair: dict[str, Any], result: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    push(ui.drawMaskButton)
    assert parameters.fixedMask.GetName() == "Mask of MRI" and "'Mask of MRI'" in ui.wayNote.text
    slicer.app.processEvents()
    push(ui.anotherTaskButton)
    assert parameters.preset == "pet-ct-to-mri" and parameters.encoder == "efficientnet-lite0"
    assert ui.taskSelector.currentText == "PET/CT to MRI"
    assert "PET/CT to MRI" in ui.wayNote.text and "press Register" in ui.wayNote.text


def test_ways_that_are_left_leave_no_trace(panel: Any, pair: dict[str, Any], result: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    names = sorted(slicer.util.getNodes("*"))
    for button in (ui.alignByHandButton, ui.alignByLandmarksButton):
        slicer.app.processEvents()
        push(button)
        assert sorted(slicer.util.getNodes("*")) != names
        slicer.app.processEvents()
        push(ui.wayCancelButton)
        assert sorted(slicer.util.getNodes("*")) == names and not ui.wayNote.visible
    assert parameters.initialTransform is None and parameters.fixedDrivingPoints is None
    assert pair["moving"].GetParentTransformNode() is None
    push(ui.alignByHandButton)
    slicer.mrmlScene.Clear(False)
    assert not ui.waysBox.visible


@pytest.mark.parametrize("needed", ["packages", "weights"])
def test_nothing_changes_if_what_a_run_needs_is_declined(
    panel: Any, result: Any, needed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    asked: list[str] = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", asked.append)  # None is no consent
    choose(ui.taskSelector, "Other")
    if needed == "packages":
        wanted = tmp_path / "requirements.txt"
        wanted.write_text("no-such-package>=1\n", encoding="utf-8")
        monkeypatch.setattr(panel, "_requirements", lambda: wanted)
    else:
        monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
        choose(ui.encoderSelector, "SAM ViT-B/16")
    shown = ("verdictNote", "reasonsNote", "figuresNote", "resultNote", "detailsNote")
    before = [getattr(ui, name).text for name in shown]

    choose(ui.compareSelector, "fade")
    push(ui.applyButton)
    assert panel._result._comparison.runs

    push(ui.alignByHandButton)
    explained, scene = ui.wayNote.text, scene_state()
    push(ui.applyButton)
    assert ui.wayDoneButton.visible and ui.wayNote.text == explained and parameters.initialTransform is None
    assert scene_state() == scene and parameters.resultTransform is result
    assert [getattr(ui, name).text for name in shown] == before
    assert len(asked) == 2 and ui.applyButton.text == "Register" and not ui.progressBar.visible


@pytest.mark.parametrize(
    ("reasons", "tried", "preset"),
    [
        (["The volumes agree no better than by chance."], {"between-patients"}, "cross-sequence"),
        (["The volumes agree no better than by chance."], {"cross-sequence"}, "pet-ct-to-mri"),
        (["The volumes agree no better than by chance."], {"longitudinal"}, "pet-ct-to-mri"),  # which is one method
        (["The volumes have one contrast, but their fine structure agrees less"], {"lesion"}, "between-patients"),
        (["The outlines of the body lie 20 mm apart"], {"longitudinal"}, "pet-ct-to-mri"),
        ([], {"cross-sequence", "pet-ct-to-mri", "between-patients"}, ""),
    ],
)
def test_next_method_follows_the_reasons(module: Any, reasons: list[str], tried: set[str], preset: str) -> None:
    from FoundationRegistrationPanel.result.next_method import next_method

    from FoundationRegistrationLib.settings import PRESETS

    assert next_method(reasons, tried) == preset
    assert not preset or preset in PRESETS
