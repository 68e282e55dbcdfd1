"""What must be known of the inputs is said before the run, and what a run had to say stays with its result."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from driving import choose, unfold

FIGURES = {
    "settings": {"encoder": "mind"},
    "metrics": {"jacobian": {"folded_percent": 0.25}, "inverse_error_mm": {"mean": 0.01, "max": 0.2}},
}
_QFORM_CODE = 252  # its place in a NIfTI-1 header; the sform code follows


@pytest.fixture
def unstated(module: Any, scene: Any, tmp_path: Path) -> Any:
    """A volume loaded from a NIfTI file that does not state its orientation."""
    pytest.importorskip("FoundationRegistrationLib.io.nifti")
    import SimpleITK as sitk

    path = tmp_path / "knee.nii"
    image = sitk.GetImageFromArray(np.random.default_rng(2).normal(100.0, 20.0, (8, 9, 10)).astype(np.float32))
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, _QFORM_CODE, 0, 0)
    path.write_bytes(bytes(content))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "knee")
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().ReadData(node)
    return node


def test_orientation_that_nobody_stated_is_said_before_the_run(
    panel: Any, pair: dict[str, Any], unstated: Any
) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, pair["fixed"].GetName())
    assert not ui.cautionNote.visible
    choose(ui.movingVolumeSelector, "knee")
    choose(ui.taskSelector, "Other")
    assert ui.cautionNote.visible and "orientation" in ui.cautionNote.text
    assert "moving" in ui.cautionNote.text and ui.applyButton.enabled
    choose(ui.movingVolumeSelector, pair["moving"].GetName())
    assert not ui.cautionNote.visible
    Path(unstated.GetStorageNode().GetFileName()).unlink()
    choose(ui.movingVolumeSelector, "knee")
    assert not ui.cautionNote.visible


def test_orientation_that_nobody_stated_stands_first_in_what_the_run_says(
    module: Any, pair: dict[str, Any], unstated: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[Any] = []
    transform = module.FoundationRegistrationLogic().register(
        pair["fixed"],
        unstated,
        encoder="mind",
        working_spacing_mm=2.0,
        initialization="none",
        iterations=2,
        onFinished=lambda *end: ends.append(end),
    )
    messages = json.loads(transform.GetAttribute("FoundationRegistration.Record"))["messages"]
    assert "orientation" in messages[0] and "moving" in messages[0]
    assert ends[0][0].messages == tuple(messages)
    assert messages[0] in caplog.text


def test_result_shows_its_verdict_and_what_its_run_said_before_its_figures(panel: Any, pair: dict[str, Any]) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    said = ["No better than chance <at all>.", "The affine start was left out."]
    nodes = [
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
        for name in ("with words", "of an older version")
    ]
    verdict = {"level": "failed", "reasons": ["The moving volume seems to be mirrored."]}
    judged = {**FIGURES, "messages": said, "verdict": verdict}
    for node, record in zip(nodes, (judged, FIGURES), strict=True):
        store_record(node, record, pair["fixed"], pair["moving"])
    unfold(panel.ui.resultSection)
    choose(panel.ui.resultTransformSelector, "with words")
    ui = panel.ui
    assert ui.verdictNote.visible and ui.verdictNote.text == "Failed: do not use this result."
    assert ui.reasonsNote.text == verdict["reasons"][0]
    assert ui.resultNote.text.splitlines() == said
    assert "0.250 % of the anatomy" in ui.figuresNote.text
    assert "It is no accuracy" in ui.detailsNote.text
    choose(panel.ui.resultTransformSelector, "of an older version")
    assert not ui.verdictNote.visible and not ui.reasonsNote.visible and not ui.resultNote.visible
    assert "0.250 % of the anatomy" in ui.figuresNote.text
