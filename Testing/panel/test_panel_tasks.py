"""The task: chosen, proposed, warned about, and kept with the scene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from driving import choose, choose_pair, click, unfold

from FoundationRegistrationLib.settings import Settings

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("engine", "mrml")]

_PRESETS = {
    "Longitudinal MRI": "longitudinal",
    "Different sequences": "cross-sequence",
    "Lesion follow-up": "lesion",
    "PET/CT to MRI": "pet-ct-to-mri",
    "Contrast series": "dce",
    "Between patients": "between-patients",
    "Other": "cross-sequence",
}


@pytest.fixture
def volumes(scene: Any) -> Any:
    """Makes a volume by its name, with DICOM's modality or none."""
    from FoundationRegistrationBridge.nodes.grids import image_from_array

    def make(name: str, modality: str = "", lowest: float = 0.0) -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        values = np.random.default_rng(3).uniform(lowest, 400.0, (8, 9, 10)).astype(np.float32)
        values[0, 0, 0] = lowest
        node.SetAndObserveImageData(image_from_array(values))
        if modality:
            node.SetAttribute("DICOM.Modality", modality)
        return node

    return make


def file_under(volume: Any, patient: str, date: str) -> None:
    """Put a volume into a study of a patient, as the DICOM module does."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    root = hierarchy.GetSceneItemID()
    person = hierarchy.GetItemChildWithName(root, patient) or hierarchy.CreateSubjectItem(root, patient)
    study = hierarchy.CreateStudyItem(person, date)
    hierarchy.SetItemAttribute(study, "DICOM.StudyDate", date)
    hierarchy.CreateItem(study, volume)


@pytest.mark.parametrize("task", _PRESETS)
def test_a_task_sets_every_setting(panel: Any, pair: dict[str, Any], task: str) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    parameters.regularization = 7.0
    choose_pair(ui, pair["fixed"], pair["moving"], task)
    expected = Settings.from_preset(_PRESETS[task]).to_dict()
    assert {name: parameters.getValue(name) for name in expected} == expected
    assert ui.applyButton.enabled is (task != "Contrast series")
    assert ("set by the task" in ui.methodSection.text) is False


def test_without_a_task_nothing_is_registered(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, "MRI")
    choose(ui.movingVolumeSelector, "CT")
    assert not ui.applyButton.enabled and "Choose the task" in ui.statusNote.text
    assert ui.methodSection.text == "Method: set by the task"


def test_a_proposal_is_taken_by_a_click_and_never_replaces_a_choice(panel: Any, pair: dict[str, Any]) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    assert not ui.proposalButton.visible
    choose(ui.fixedVolumeSelector, "MRI")
    choose(ui.movingVolumeSelector, "CT")
    assert ui.proposalButton.visible and ui.proposalButton.text == "Proposed: PET/CT to MRI"
    assert parameters.task == "" and not ui.applyButton.enabled
    click(ui.proposalButton)
    assert ui.taskSelector.currentText == "PET/CT to MRI" and parameters.preset == "pet-ct-to-mri"
    assert not ui.proposalButton.visible and ui.applyButton.enabled
    choose(ui.taskSelector, "Between patients")
    assert not ui.proposalButton.visible, "a sound choice is left alone"
    choose(ui.taskSelector, "Longitudinal MRI")
    assert ui.taskSelector.currentText == "Longitudinal MRI"
    assert "is for two MR images, but 'CT' is a CT" in ui.cautionNote.text
    assert ui.proposalButton.visible and ui.applyButton.enabled, "it warns, and leaves the choice"


def test_dicom_names_and_dates_propose(panel: Any, volumes: Any) -> None:
    ui = panel.ui
    for fixed, moving, proposed in (
        (("4: T1 SPAIR", "MR"), ("5: T2 TSE", "MR"), "Different sequences"),
        (("a", "MR"), ("b", "PT"), "PET/CT to MRI"),
        (("T2 axial", ""), ("c", "CT"), "PET/CT to MRI"),
        (("T2 axial", ""), ("d", "", -1024.0), "PET/CT to MRI"),
        (("e", ""), ("f", ""), ""),
        (("T1", "MR"), ("T1 again", "MR"), ""),
    ):
        nodes = [volumes(*fixed), volumes(*moving)]
        choose(ui.fixedVolumeSelector, nodes[0].GetName())
        choose(ui.movingVolumeSelector, nodes[1].GetName())
        shown = ui.proposalButton.text.removeprefix("Proposed: ") if ui.proposalButton.visible else ""
        assert shown == proposed, (fixed, moving)
        for node in nodes:
            slicer.mrmlScene.RemoveNode(node)
    for patient, proposed in (("Ada", "Longitudinal MRI"), ("Eve", "Between patients")):
        today, before = volumes("T1 today", "MR"), volumes("T1 before", "MR")
        file_under(today, "Ada", "20260301")
        file_under(before, patient, "20250301")
        choose(ui.fixedVolumeSelector, "T1 today")
        choose(ui.movingVolumeSelector, "T1 before")
        assert ui.proposalButton.text == f"Proposed: {proposed}"
        for node in (today, before):
            slicer.mrmlScene.RemoveNode(node)


def test_swapped_images_are_said_and_swapped_by_a_click(panel: Any, pair: dict[str, Any]) -> None:
    ui = panel.ui
    choose_pair(ui, pair["moving"], pair["fixed"], "PET/CT to MRI")
    assert "'CT' is a CT and fixed; for PET/CT to MRI the MRI stays fixed" in ui.cautionNote.text
    click(ui.swapButton)
    assert (ui.fixedVolumeSelector.currentNode(), ui.movingVolumeSelector.currentNode()) == (
        pair["fixed"],
        pair["moving"],
    )
    assert not ui.cautionNote.visible and not ui.swapButton.visible


def test_all_that_is_chosen_for_an_image_is_swapped_with_it(panel: Any, pair: dict[str, Any], scene: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    choose_pair(ui, pair["moving"], pair["fixed"], "PET/CT to MRI")
    segmentations, points = {"fixed": pair["fixed_labels"]}, {}
    segmentations["moving"] = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "others")
    segmentations["moving"].GetSegmentation().DeepCopy(pair["fixed_labels"].GetSegmentation())  # with the same IDs
    ids = pair["fixed_labels"].GetSegmentation().GetSegmentIDs()
    for side, segmentation in segmentations.items():
        points[side] = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{side} points")
        for kind in ("Mask", "Lesion", "Structures", "Labels"):
            parameters.setValue(f"{side}{kind}", segmentation)
        for kind in ("DrivingPoints", "Points"):
            parameters.setValue(f"{side}{kind}", points[side])
    chosen = {"fixedMask": ids[0], "movingMask": ids[0], "fixedLesion": ids[0], "movingLesion": ids[1]}
    for name, segment in chosen.items():
        parameters.setValue(f"{name}Segment", segment)
    parameters.fixed_modality = "ct"
    parameters.initialTransform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "by hand")
    parameters.region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")

    click(ui.swapButton)
    for side, other in (("fixed", "moving"), ("moving", "fixed")):
        for kind in ("Mask", "Lesion", "Structures", "Labels"):
            assert parameters.getValue(f"{side}{kind}") is segmentations[other]
        for kind in ("DrivingPoints", "Points"):
            assert parameters.getValue(f"{side}{kind}") is points[other]
        for kind in ("Mask", "Lesion"):
            assert parameters.getValue(f"{side}{kind}Segment") == chosen[f"{other}{kind}"]
    assert (parameters.fixed_modality, parameters.moving_modality) == ("auto", "ct")
    assert parameters.initialTransform is None and parameters.region is None
    assert "no longer chosen: 'by hand', 'box'." in ui.cautionNote.text
    choose(ui.movingVolumeSelector, "Choose an image")
    choose(ui.movingVolumeSelector, "CT")
    assert "no longer chosen" not in ui.cautionNote.text


def test_modalities_and_patients_that_contradict_the_task_are_said(panel: Any, volumes: Any) -> None:
    ui = panel.ui
    fixed, moving = volumes("today", "MR"), volumes("uptake", "PT")
    choose_pair(ui, fixed, moving, "PET/CT to MRI")
    assert "'uptake' is the PET; take the CT" in ui.cautionNote.text
    moving.SetAttribute("DICOM.Modality", "MR")
    assert "both images are MR" in ui.cautionNote.text
    file_under(fixed, "Ada", "20260301")
    file_under(moving, "Eve", "20250301")
    choose(ui.taskSelector, "Lesion follow-up")
    assert "are of different patients" in ui.cautionNote.text
    choose(ui.taskSelector, "Between patients")
    assert not ui.cautionNote.visible
    assert ui.applyButton.enabled


def test_images_that_lie_apart_are_said_where_they_are_in_the_world(panel: Any, volumes: Any) -> None:
    ui = panel.ui
    choose_pair(ui, volumes("today", "MR"), volumes("before", "MR"))
    assert not ui.cautionNote.visible
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "table")
    move = vtk.vtkTransform()
    move.RotateZ(30.0)
    move.Translate(0.0, 100.0, 0.0)
    table.SetMatrixTransformToParent(move.GetMatrix())
    slicer.util.getNode("before").SetAndObserveTransformNodeID(table.GetID())
    assert "'today' and 'before' lie" in ui.cautionNote.text and "mm apart" in ui.cautionNote.text
    choose(ui.initialTransformSelector, "table")
    assert not ui.cautionNote.visible, "a start says where they belong"


def test_task_is_kept_with_the_scene_and_through_other_modules(
    panel: Any, pair: dict[str, Any], tmp_path: Path
) -> None:
    ui = panel.ui
    choose_pair(ui, pair["fixed"], pair["moving"], "Lesion follow-up")
    panel.exit()
    panel.enter()
    assert ui.taskSelector.currentText == "Lesion follow-up"
    path = str(tmp_path / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Commit(path)
    slicer.mrmlScene.Clear(False)
    assert ui.taskSelector.currentText == "Choose a task"
    panel.exit()
    slicer.mrmlScene.SetURL(path)
    slicer.mrmlScene.Connect()
    panel.enter()
    assert ui.taskSelector.currentText == "Lesion follow-up" and panel._parameterNode.preset == "lesion"


def test_contrast_series_takes_a_sequence_and_registers_all_its_time_points(
    panel: Any, scene: Any, qtbot: Any
) -> None:
    from FoundationRegistrationBridge.scene.transforms import stored_record
    from known_sequence import browser_of, sequence_of
    from volumes import empty_grid, smooth_warp, volume

    ui, grid = panel.ui, empty_grid("anisotropic")
    sequence = sequence_of(scene, [volume(grid), volume(grid, smooth_warp)])
    _browser, proxy = browser_of(sequence)
    choose(ui.movingVolumeSelector, proxy.GetName())
    assert ui.proposalButton.text == "Proposed: Contrast series"
    click(ui.proposalButton)
    assert ui.seriesSelector.visible and not ui.movingVolumeSelector.visible
    assert ui.seriesSelector.currentNode() is proxy
    titles = [ui.referenceSelector.itemText(index) for index in range(ui.referenceSelector.count)]
    assert titles == ["Time point 0 (0 s)", "Time point 1 (60.5 s)", "Mean of all time points"]
    choose(ui.referenceSelector, "Time point 1 (60.5 s)")
    choose_mask_of_the_reference(ui, scene, sitk.Cast(volume(grid, smooth_warp) > 0, sitk.sitkUInt8))
    ui.working_spacing_mmSetting.value = 8.0
    ui.iterationsSetting.value = 5
    ui.fluid_iterationsSetting.value = 0
    assert ui.applyButton.enabled
    click(ui.applyButton)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=120_000)
    registered = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    assert "DCE registered sequence" in [node.GetName() for node in registered]
    assert all(node.GetNumberOfDataNodes() == 2 for node in registered)
    assert "Done: 'DCE registered sequence'" in ui.logText.plainText
    assert ui.verdictNote.visible and not ui.waysBox.visible and not ui.petSection.visible
    assert "Change over time" in ui.figuresNote.text and "% registered" in ui.figuresNote.text
    assert "Time point 1 (60.5 s): reference" in ui.detailsNote.text
    assert "mask" in stored_record(panel._parameterNode.resultSeries)["inputs"]
    choose(ui.taskSelector, "Other")
    assert not ui.seriesBox.visible and not ui.verdictNote.visible and ui.petSection.visible
    assert ui.movingVolumeSelector.currentNode() is proxy
    assert ui.masksSection.text == "Masks and lesions: 2 chosen" and ui.movingMaskSelector.visible


def choose_mask_of_the_reference(ui: Any, scene: Any, drawn: sitk.Image) -> None:
    """Of the masks of a pair, a series takes that of the fixed image, and leaves the others alone."""
    from nodes import segmentation_node

    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    segmentation_node(scene, drawn, {1: "body"}, "drawn")
    choose(ui.taskSelector, "Other")
    unfold(ui.masksSection)
    choose(ui.movingMaskSelector, "empty")
    assert ui.movingSegmentSelector.visible
    choose(ui.taskSelector, "Contrast series")
    assert ui.masksSection.text == "Mask: none"
    for name in ("movingMask", "fixedLesion", "movingLesion"):
        assert not getattr(ui, f"{name}Label").visible and not getattr(ui, f"{name}Selector").visible
    assert not ui.movingSegmentSelector.visible and not ui.statusNote.text
    choose(ui.fixedMaskSelector, "empty")
    assert "'empty' has no segments" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.fixedMaskSelector, "drawn")
    choose(ui.fixedSegmentSelector, "body")
    assert ui.masksSection.text == "Mask: fixed mask" and empty.GetScene() is scene


def test_contrast_series_says_what_is_missing(panel: Any, scene: Any) -> None:
    from known_sequence import sequence_of
    from volumes import empty_grid, volume

    ui = panel.ui
    choose(ui.taskSelector, "Contrast series")
    assert "the sequence of a contrast series" in ui.statusNote.text and not ui.referenceSelector.enabled
    plain = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "one volume")
    assert plain not in ui.seriesSelector.nodes(), "only what a browser shows is offered"
    sequence_of(scene, [volume(empty_grid("LPS"))], name="one")
    choose(ui.seriesSelector, "one")
    assert "fewer than two time points" in ui.statusNote.text and not ui.applyButton.enabled


def test_reference_of_a_longer_series_is_not_kept_for_a_shorter_one(panel: Any, scene: Any) -> None:
    from known_sequence import sequence_of
    from volumes import empty_grid, volume

    ui, parameters, images = panel.ui, panel._parameterNode, [volume(empty_grid("LPS"))] * 4
    for name, count in (("long", 4), ("short", 2)):
        sequence_of(scene, images[:count], name=name)
    choose(ui.taskSelector, "Contrast series")
    for chosen, kept in ((3, "0"), (1, "1"), (4, "mean")):
        choose(ui.seriesSelector, "long")
        choose(ui.referenceSelector, ui.referenceSelector.itemText(chosen))
        choose(ui.seriesSelector, "short")
        assert parameters.referenceTimePoint == kept
        assert ui.referenceSelector.currentIndex == (2 if kept == "mean" else int(kept))
