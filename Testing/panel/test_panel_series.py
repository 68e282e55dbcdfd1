"""The result of a contrast series: what was done, its subtraction over the anatomy, its curves; or how it failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from driving import choose, push, unfold

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("engine", "mrml")]

REASON = "Fine structure agrees no better than by chance."
RECORD: dict[str, Any] = {
    "frames": [
        {"state": "reference", "verdict": None, "motion_mm": {"mean": 0.0, "max": 0.0}},
        {"state": "registered", "verdict": "good", "motion_mm": {"mean": 2.0, "max": 7.1}},
        {"state": "failed", "verdict": "failed", "motion_mm": {"mean": 0.0, "max": 0.0}},
    ],
    "metrics": {"temporal_deviation_percent": {"before": 27.1, "after": 5.4}, "enhancing_percent": 3.0},
    "messages": [
        "Time point 2 (121 s) of 'DCE' could not be registered; it is left as it was.",
        f"Frame 2: {REASON}",
    ],
}


@pytest.fixture
def series(panel: Any, scene: Any) -> dict[str, Any]:
    """A registered series, as the result of the panel, with a lesion on it; on oblique voxels."""
    import SimpleITK as sitk
    from FoundationRegistrationBridge.scene.transforms import RECORD as ATTRIBUTE
    from FoundationRegistrationBridge.series.results import ORIGINAL_ROLE
    from known_sequence import browser_of, sequence_of
    from nodes import segmentation_node
    from volumes import empty_grid, on_grid, points_of

    grid = empty_grid("oblique", extent_mm=(30.0, 28.0, 32.0))
    ball = (np.linalg.norm(points_of(grid), axis=1) < 6.0).astype(np.float32)
    images = [on_grid(50.0 + amount * ball, grid) for amount in (10.0, 200.0, 100.0)]
    original = sequence_of(scene, images, name="DCE")
    registered = sequence_of(scene, images, name="DCE registered sequence")
    browser, shown = browser_of(registered)
    shown.SetName("DCE registered")
    registered.SetNodeReferenceID(ORIGINAL_ROLE, original.GetID())
    registered.SetAttribute(ATTRIBUTE, json.dumps(RECORD))
    lesion = segmentation_node(scene, sitk.Cast(on_grid(ball, grid) > 0.5, sitk.sitkUInt8), {1: "lesion"}, "drawn")
    unfold(panel.ui.resultSection)
    choose(panel.ui.taskSelector, "Contrast series")
    panel._parameterNode.resultSeries = registered
    return {"registered": registered, "shown": shown, "browser": browser, "lesion": lesion}


def layers() -> tuple[str, str]:
    """What the red slice view shows: background and foreground."""
    composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    return composite.GetBackgroundVolumeID() or "", composite.GetForegroundVolumeID() or ""


def test_what_was_done_is_said(panel: Any, series: dict[str, Any]) -> None:
    ui = panel.ui
    assert ui.verdictNote.text == "Check: 1 of 2 time points were registered, the others left as they were."
    assert ui.reasonsNote.text.splitlines() == [RECORD["messages"][0], f"Time point 2: {REASON}"]
    assert "2.0 mm on average, 7.1 mm at most" in ui.figuresNote.text
    assert "27.1 % of the signal as acquired, 5.4 % registered, outside enhancing tissue" in ui.figuresNote.text
    assert ui.detailsNote.text.splitlines() == [
        "Time point 0 (0 s): reference",
        "Time point 1 (60.5 s): good, motion 2.0 mm on average, 7.1 mm at most",
        "Time point 2 (121 s): left as it was",
    ]
    assert not ui.waysBox.visible and not ui.compareSelector.visible and not ui.qualitySection.visible


def test_subtraction_is_shown_over_the_registered_volume_and_hidden_again(panel: Any, series: dict[str, Any]) -> None:
    ui, before = panel.ui, layers()
    push(ui.subtractionButton)
    first_minute = slicer.util.getNode("DCE registered subtraction, time point 1 (60.5 s)")
    assert layers() == (series["shown"].GetID(), first_minute.GetID())
    assert ui.subtractionButton.text == "Hide" and ui.stopButton.enabled
    choose(ui.subtractionSelector, "Time point 2 (121 s)")
    other = slicer.util.getNode("DCE registered subtraction, time point 2 (121 s)")
    assert layers() == (series["shown"].GetID(), other.GetID())
    push(ui.stopButton)
    assert layers() == before and ui.subtractionButton.text == "Show"


def test_curve_of_a_segment_is_plotted(panel: Any, series: dict[str, Any]) -> None:
    ui = panel.ui
    assert not ui.curveButton.enabled
    choose(ui.curveLabelsSelector, "drawn")
    choose(ui.curveSegmentSelector, "lesion")
    push(ui.curveButton)
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    table = chart.GetNthPlotSeriesNode(1).GetTableNode().GetTable()
    values = table.GetColumnByName("lesion, registered")
    assert [values.GetValue(index) for index in range(3)] == pytest.approx([60.0, 250.0, 150.0])


@pytest.mark.parametrize("error", ["Frame 1 is empty; choose another series.", None])
def test_run_without_a_result_leaves_nothing_of_an_earlier_one(
    panel: Any, series: dict[str, Any], error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, before = panel.ui, layers()
    push(ui.subtractionButton)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda *_: None)
    panel._onSeriesFinished(None, error, error is None)
    assert ui.verdictNote.text == f"No result: the run {'failed' if error else 'was cancelled'}."
    assert ui.reasonsNote.text == (error or "")
    assert not any(widget.visible for widget in (ui.seriesBox, ui.figuresNote, ui.detailsNote, ui.waysBox))
    assert layers() == before


@pytest.mark.parametrize("of_series", [True, False])
def test_task_chosen_during_a_run_does_not_turn_its_end_on_another_result(
    panel: Any, series: dict[str, Any], pair: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, of_series: bool
) -> None:
    from FoundationRegistrationBridge.scene.transforms import store_record

    ui, parameters = panel.ui, panel._parameterNode
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
    record = {"verdict": {"level": "good", "reasons": []}, "settings": {}, "messages": []}
    store_record(transform, record, pair["fixed"], pair["moving"])
    parameters.resultTransform, parameters.resultVolume = transform, pair["moving"]
    run, other = ("Contrast series", "Other") if of_series else ("Other", "Contrast series")
    choose(ui.taskSelector, other)
    shown = ui.verdictNote.text
    end = panel._onSeriesFinished if of_series else panel._onFinished
    end(None, None, True)
    assert ui.verdictNote.text == shown and shown.startswith("Good" if of_series else "Check")
    assert (parameters.resultSeries is None) is of_series and (parameters.resultTransform is None) is not of_series
    choose(ui.taskSelector, run)
    assert ui.verdictNote.text == "No result: the run was cancelled."
    choose(ui.taskSelector, other)
    assert ui.verdictNote.text == shown
