"""Scenes opened and closed around the panel: what was saved with one is there again, and nothing of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer
import slicer.util
from driving import choose, choose_pair, click, unfold


def save(folder: Path) -> None:
    """Save the scene with its data."""
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(index)
        if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLTransformNode"):
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
            ending = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(folder / f"{node.GetID()}.{ending}"))
            assert storage.WriteData(node)
    slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
    assert slicer.mrmlScene.Commit()


def open_again(folder: Path, *, close: bool = True) -> None:
    """Open the saved scene, or add it to what is there."""
    if close:
        slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
    assert slicer.mrmlScene.Import()
    slicer.app.processEvents()


@pytest.mark.parametrize("in_front", [True, False])
@pytest.mark.parametrize("close", [True, False])
def test_segments_of_a_saved_scene_are_chosen_again(
    panel: Any, pair: dict[str, Any], tmp_path: Path, *, in_front: bool, close: bool
) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    choose_pair(ui, pair["fixed"], pair["moving"])
    unfold(ui.masksSection)
    names = ("fixedMask", "movingLesion", "curveLabels")
    for name in names:
        parameters.setValue(name, pair["fixed_labels"])
    for name in ("fixed", "movingLesion", "curve"):
        choose(getattr(ui, f"{name}SegmentSelector"), "organ")
    save(tmp_path)
    if not in_front:
        panel.parent.isEntered = False
        panel.exit()
    open_again(tmp_path, close=close)
    panel.parent.isEntered = True
    panel.enter()
    organ = parameters.fixedMask.GetSegmentation().GetSegmentIdBySegmentName("organ")
    assert organ and [panel._parameterNode.getValue(f"{name}Segment") for name in names] == [organ] * 3
    assert ui.fixedSegmentSelector.currentText == "organ"


def test_segment_of_another_mask_is_not_taken_over(panel: Any, pair: dict[str, Any], scene: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    other = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    other.GetSegmentation().DeepCopy(pair["fixed_labels"].GetSegmentation())  # with segments of the same IDs
    unfold(ui.masksSection)
    choose_pair(ui, pair["fixed"], pair["moving"])
    for removed in (False, True):
        choose(ui.fixedMaskSelector, "structures")
        choose(ui.fixedSegmentSelector, "organ")
        if removed:
            scene.RemoveNode(pair["fixed_labels"])
        choose(ui.fixedMaskSelector, "other")
        assert parameters.fixedMaskSegment == "" and ui.fixedSegmentSelector.currentText == "all segments"


@pytest.mark.parametrize("in_front", [True, False])
def test_chosen_registered_volume_of_a_saved_scene_is_chosen_again(
    panel: Any, pair: dict[str, Any], scene: Any, tmp_path: Path, *, in_front: bool
) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    store_record(transform, {}, pair["fixed"], pair["moving"])
    choose(panel.ui.resultTransformSelector, "CT to MRI")
    choose(panel.ui.resultVolumeSelector, "CT")
    save(tmp_path)
    if not in_front:
        panel.parent.isEntered = False
        panel.exit()
    open_again(tmp_path)
    panel.parent.isEntered = True
    panel.enter()
    parameters = panel._parameterNode
    assert (parameters.resultTransform.GetName(), parameters.resultVolume.GetName()) == ("CT to MRI", "CT")


def test_run_of_a_closed_scene_leaves_the_result_of_another_alone(
    panel: Any, pair: dict[str, Any], scene: Any, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    said: list[str] = []
    monkeypatch.setattr(slicer.util, "errorDisplay", said.append)
    ui, record = panel.ui, {"verdict": {"level": "good", "reasons": []}, "settings": {}, "messages": []}
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    store_record(transform, record, pair["fixed"], pair["moving"])
    choose_pair(ui, pair["fixed"], pair["moving"])
    choose(ui.resultTransformSelector, "CT to MRI")
    choose(ui.resultVolumeSelector, "CT")
    save(tmp_path)
    click(ui.applyButton)
    open_again(tmp_path)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=15_000)
    assert "was removed during the registration" in said[0] and said[0] in ui.logText.plainText
    parameters = panel._parameterNode
    assert (parameters.resultTransform.GetName(), parameters.resultVolume.GetName()) == ("CT to MRI", "CT")
    assert ui.verdictNote.text.startswith("Good")
    click(ui.applyButton)
    click(ui.applyButton)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=15_000)
    assert parameters.resultTransform is None and ui.verdictNote.text == "No result: the run was cancelled."
