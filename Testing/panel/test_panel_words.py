"""The panel says in words what it is, what is missing and what a choice means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from driving import choose, choose_pair, click, unfold

from FoundationRegistrationLib.settings import PRESETS, Settings


def test_says_that_it_is_for_research(panel: Any) -> None:
    assert panel.ui.researchNote.text == "For research only. Not a medical device."


def test_empty_scene(panel: Any) -> None:
    assert not panel.ui.applyButton.enabled
    assert "Load two images" in panel.ui.statusNote.text
    assert panel.ui.applyButton.toolTip == panel.ui.statusNote.text


def test_what_is_missing_is_said_one_after_the_other(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    assert "Choose the fixed image" in ui.statusNote.text
    choose(ui.fixedVolumeSelector, pair["fixed"].GetName())
    assert "Choose the moving image" in ui.statusNote.text
    choose(ui.movingVolumeSelector, pair["fixed"].GetName())
    assert "choose two different volumes" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.movingVolumeSelector, pair["moving"].GetName())
    assert "Choose the task" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.taskSelector, "PET/CT to MRI")
    assert ui.applyButton.enabled and not ui.statusNote.visible


def test_empty_mask_and_lost_segment(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    unfold(ui.masksSection)
    choose_pair(ui, pair["fixed"], pair["moving"])
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    choose(ui.fixedMaskSelector, "empty")
    assert "has no segments" in ui.statusNote.text
    choose(ui.fixedMaskSelector, pair["fixed_labels"].GetName())
    assert ui.fixedSegmentSelector.visible and ui.applyButton.enabled
    choose(ui.fixedSegmentSelector, "breast")
    segmentation = pair["fixed_labels"].GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("breast"))
    panel.enter()
    assert "no longer has the chosen segment" in ui.statusNote.text
    choose(ui.fixedMaskSelector, "None (detect body)")
    assert ui.applyButton.enabled and not ui.fixedSegmentSelector.visible
    slicer.mrmlScene.RemoveNode(empty)


def test_mask_that_marks_nothing_is_said_before_the_run(panel: Any, pair: dict[str, Any], scene: Any) -> None:
    from FoundationRegistrationBridge.nodes.grids import image_from_array

    ui, labels = panel.ui, np.zeros((8, 9, 10), np.uint8)
    unfold(ui.masksSection)
    choose_pair(ui, pair["fixed"], pair["moving"])
    made = {name: scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name) for name in ("no voxels", "zeros")}
    made["zeros"].SetAndObserveImageData(image_from_array(labels))
    blank = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "blank")
    blank.GetSegmentation().AddEmptySegment("mask")
    for role in ("fixedMask", "movingMask", "fixedLesion", "movingLesion"):
        for name in ("no voxels", "zeros", "blank"):
            choose(getattr(ui, f"{role}Selector"), name)
            assert ui.statusNote.text.startswith(f"The mask '{name}' marks nothing") and not ui.applyButton.enabled
        panel._parameterNode.setValue(role, None)
        assert ui.applyButton.enabled
    choose(ui.fixedMaskSelector, "zeros")
    labels[3:5, 3:5, 3:5] = 1
    made["zeros"].SetAndObserveImageData(image_from_array(labels))
    slicer.app.processEvents()
    assert ui.applyButton.enabled, "also of the chosen mask that is drawn in"


def test_chosen_mask_that_is_edited_is_looked_at_again(panel: Any, pair: dict[str, Any]) -> None:
    ui, segmentation = panel.ui, pair["fixed_labels"].GetSegmentation()
    unfold(ui.masksSection)
    choose_pair(ui, pair["fixed"], pair["moving"])
    choose(ui.fixedMaskSelector, "structures")
    for title, words in (("breast", ""), ("organ", "has no segments")):
        segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName(title))
        slicer.app.processEvents()
        assert words in ui.statusNote.text and ui.applyButton.enabled is not bool(words)
        assert ui.fixedSegmentSelector.findText(title) == -1
    choose(ui.fixedMaskSelector, "None (detect body)")
    assert ui.applyButton.enabled
    pair["fixed"].SetAndObserveImageData(None)
    slicer.app.processEvents()
    assert "'MRI'" in ui.statusNote.text and not ui.applyButton.enabled


def test_lesions_to_keep_are_chosen_like_masks(panel: Any, pair: dict[str, Any]) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    choose_pair(ui, pair["fixed"], pair["moving"])
    assert not ui.movingLesionSegmentSelector.visible
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "not drawn yet")
    choose(ui.fixedLesionSelector, "not drawn yet")
    assert "has no segments" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.fixedLesionSelector, "None")
    choose(ui.movingLesionSelector, pair["fixed_labels"].GetName())
    choose(ui.movingLesionSegmentSelector, "organ")
    segment = pair["fixed_labels"].GetSegmentation().GetSegmentIdBySegmentName("organ")
    assert (parameters.movingLesion, parameters.movingLesionSegment) == (pair["fixed_labels"], segment)
    assert parameters.movingMask is None and not ui.movingSegmentSelector.visible
    assert ui.applyButton.enabled


def test_output_that_would_move_the_fixed_volume(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    choose_pair(ui, pair["fixed"], pair["moving"])
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "table position")
    pair["fixed"].SetAndObserveTransformNodeID(slicer.util.getNode("table position").GetID())
    choose(ui.outputTransformSelector, "table position")
    assert "choose another output transform" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.outputTransformSelector, "Create a new transform")
    choose(ui.outputVolumeSelector, pair["moving"].GetName())
    assert "choose another output volume" in ui.statusNote.text
    ui.createVolumeCheckBox.checked = False
    assert ui.applyButton.enabled and not ui.outputVolumeSelector.enabled


def test_choices_are_cleared_with_their_node_and_scene(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    choose_pair(ui, pair["fixed"], pair["moving"])
    slicer.mrmlScene.RemoveNode(pair["fixed"])
    assert ui.fixedVolumeSelector.currentNode() is None and "fixed" in ui.statusNote.text
    slicer.mrmlScene.Clear(False)
    assert ui.movingVolumeSelector.currentNode() is None and "Load two images" in ui.statusNote.text


def test_preset_sets_all_settings_and_changes_are_told(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    choose(ui.presetSelector, "PET/CT to MRI")
    expected = Settings.from_preset("pet-ct-to-mri").to_dict()
    assert {name: parameters.getValue(name) for name in expected} == expected
    assert "prone MR" in ui.presetNote.text and "Changed" not in ui.presetNote.text
    unfold(ui.advancedSection)
    ui.regularizationSetting.value = 2.5
    assert "Changed: Regularization." in ui.presetNote.text
    choose(ui.presetSelector, "Longitudinal")
    assert (
        parameters.regularization == Settings.from_preset("longitudinal").regularization
        and "Changed" not in ui.presetNote.text
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_no_setting_is_rounded_or_clipped_by_its_widget(panel: Any, preset: str) -> None:
    parameters = panel._parameterNode
    titles = [panel.ui.presetSelector.itemText(index) for index in range(panel.ui.presetSelector.count)]
    choose(panel.ui.presetSelector, titles[list(PRESETS).index(preset)])
    expected = Settings.from_preset(preset).to_dict()
    assert {name: parameters.getValue(name) for name in expected} == expected


def test_settings_have_one_widget_or_none_with_help_and_the_value_of_the_preset(panel: Any) -> None:
    shown = [widget.property("SlicerParameterName") for widget in vars(panel.ui).values()]
    assert all(shown.count(name) <= 1 for name in Settings().to_dict())
    for name in ("encoder", "initialization", "stages", "working_spacing_mm", "regularization", "device"):
        assert name in shown
    assert "learning_rate" not in shown  # nobody but a script changes it
    tip = panel.ui.regularizationSetting.toolTip
    assert "Lambda, weight of the diffusion regulariser" in tip and "By this preset: 1.25" in tip
    choose(panel.ui.presetSelector, "PET/CT to MRI")
    assert "By this preset: 1.0" in panel.ui.regularizationSetting.toolTip
    assert "By this preset: EfficientNet" in panel.ui.encoderSelector.toolTip


def test_reset_brings_back_the_preset(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    choose(ui.taskSelector, "Longitudinal MRI")
    unfold(ui.advancedSection)
    assert not ui.resetButton.enabled
    ui.regularizationSetting.value = 2.5
    ui.memory_budget_gbSetting.value = 2.0
    parameters.learning_rate = 0.5  # as a script may
    assert ui.advancedSection.text == "Advanced: 3 changed"
    choose(ui.presetSelector, "Longitudinal")
    assert parameters.memory_budget_gb == 2.0, "a preset leaves alone what depends on the machine"
    click(ui.resetButton)
    expected = Settings.from_preset("longitudinal").to_dict()
    assert {name: parameters.getValue(name) for name in expected} == expected
    assert ui.advancedSection.text == "Advanced: as the preset" and not ui.resetButton.enabled


def test_settings_that_do_not_go_together_are_refused_in_words(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    choose_pair(ui, pair["fixed"], pair["moving"])
    panel._parameterNode.adam_grid_spacing = 4  # as a script may
    assert "must be a multiple" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.presetSelector, "Default")
    assert ui.applyButton.enabled


def test_choices_survive_leaving_the_module_and_a_saved_scene(
    panel: Any, pair: dict[str, Any], tmp_path: Any
) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, pair["fixed"].GetName())
    choose(ui.fixedMaskSelector, pair["fixed_labels"].GetName())
    choose(ui.fixedSegmentSelector, "organ")
    ui.regularizationSetting.value = 3.5
    panel.exit()
    ui.regularizationSetting.value = 9.0  # not shown to anyone, and not taken
    panel.enter()
    assert ui.regularizationSetting.value == 3.5
    path = str(tmp_path / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Commit(path)
    text = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert "regularization" in text and "fixedMaskSegment" in text
    assert ui.fixedSegmentSelector.currentText == "organ"


def test_initial_transform_takes_the_place_of_the_alignment(panel: Any, pair: dict[str, Any]) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "by hand")
    assert panel.ui.initializationSelector.enabled
    choose(panel.ui.initialTransformSelector, "by hand")
    assert not panel.ui.initializationSelector.enabled


def test_follow_and_undo_without_a_registration_are_off(panel: Any) -> None:
    unfold(panel.ui.resultSection)
    for button in (panel.ui.followButton, panel.ui.undoFollowButton, panel.ui.qualityButton, panel.ui.petButton):
        assert not button.enabled


def test_weights_folder_is_kept_in_the_application_settings(panel: Any, monkeypatch: Any, tmp_path: Any) -> None:
    import os

    import qt

    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)
    panel.ui.weightsFolderEdit.text = str(tmp_path)
    panel.onWeightsFolder()
    assert qt.QSettings().value("FoundationRegistration/WeightsFolder") == str(tmp_path)
    assert os.environ["FOUNDATION_REGISTRATION_WEIGHTS"] == str(tmp_path)
    panel.ui.weightsFolderEdit.text = ""
    panel.onWeightsFolder()
    assert "FOUNDATION_REGISTRATION_WEIGHTS" not in os.environ


def test_cannot_click_register_before_it_is_ready(panel: Any) -> None:
    with pytest.raises(AssertionError):
        click(panel.ui.applyButton)
