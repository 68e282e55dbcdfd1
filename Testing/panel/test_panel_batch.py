"""The Batch section by clicks: the real engine runs a table, and a pair of it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
import slicer.util
from driving import click, unfold
from stand_in_nodes import scene_state
from volumes import write_labelled_pair

PATIENCE_MS = 300_000
ROWS = """fixed,moving,name,fixed_labels,moving_labels
today.nrrd,damaged.nrrd,lost,,
today.nrrd,before.nrrd,Ada,today_labels.nrrd,before_labels.nrrd
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_labelled_pair(tmp_path)
    (tmp_path / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    (tmp_path / "cohort.csv").write_text(ROWS)
    return tmp_path


def widgets(panel: Any) -> Any:
    ui = slicer.util.childWidgetVariables(panel.parent)
    unfold(ui.batchSection)
    return ui


def enter(edit: Any, text: str) -> None:
    edit.text = text
    edit.editingFinished.emit()


def shown(table: Any) -> list[list[str]]:
    return [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]


def choose_fast_settings(panel: Any) -> None:
    parameters = panel._parameterNode
    parameters.encoder, parameters.initialization = "mind", "none"
    parameters.working_spacing_mm, parameters.fluid_iterations = 4.0, 0


def test_a_table_is_run_and_a_pair_of_it_loaded(panel: Any, folder: Path, qtbot: Any, monkeypatch: Any) -> None:
    choose_fast_settings(panel)
    ui = widgets(panel)
    assert not ui.batchRunButton.enabled and "Choose a table" in ui.batchRunButton.toolTip
    assert not ui.batchPageButton.enabled and not ui.batchLoadButton.enabled
    enter(ui.batchTableEdit, str(folder / "cohort.csv"))
    steps = set()
    ui.batchProgressBar.connect("valueChanged(int)", lambda _: steps.add(ui.batchStepNote.text))
    before = scene_state()
    click(ui.batchRunButton)
    assert ui.batchRunButton.text == "Cancel" and ui.batchProgressBar.visible
    qtbot.waitUntil(lambda: ui.batchRunButton.text == "Run", timeout=PATIENCE_MS)
    assert any(step.startswith("Pair Ada: ") for step in steps), "the bar names the pair"
    lost, ada = shown(ui.batchPairsTable)
    assert lost[:2] == ["lost", "failed"] and "damaged.nrrd" in lost[2]
    assert ada[0] == "Ada" and ada[1] in ("good", "check")
    assert scene_state() == before

    opened: list[Any] = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    click(ui.batchPageButton)
    assert Path(opened[0].toLocalFile()) == folder / "cohort_results" / "index.html"
    ui.batchPairsTable.selectRow(1)
    click(ui.batchLoadButton)
    parameters = panel._parameterNode
    assert parameters.resultTransform.GetName() == "Ada registration"
    assert parameters.resultVolume.GetName() == "Ada registration: registered volume"
    assert (parameters.fixedVolume.GetName(), parameters.fixedLabels.GetName()) == ("Ada fixed", "Ada fixed labels")
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActiveVolumeID() == parameters.fixedVolume.GetID(), "the slice views show it"
    assert panel.ui.compareSelector.enabled and panel.ui.qualityButton.enabled and panel.ui.verdictNote.text

    after = scene_state()
    ui.batchPairsTable.selectRow(0)
    click(ui.batchLoadButton)  # shown as an error
    assert scene_state() == after


def test_an_earlier_cohort_is_opened_by_its_folder_and_a_run_can_be_cancelled(
    panel: Any, folder: Path, qtbot: Any
) -> None:
    results = folder / "results"
    results.mkdir()
    header = "name,state,error,verdict,reasons,messages,folder\n"
    (results / "pairs.csv").write_text(f"{header}Eve,done,,check,Look twice.,,Eve\nBob,waiting,,,,,Bob\n")
    ui = widgets(panel)
    enter(ui.batchFolderEdit, str(results))
    assert shown(ui.batchPairsTable) == [["Eve", "check", "Look twice."], ["Bob", "waiting", ""]]
    assert not ui.batchRunButton.enabled
    enter(ui.batchFolderEdit, str(folder / "other"))
    assert ui.batchPairsTable.rowCount == 0

    choose_fast_settings(panel)
    enter(ui.batchTableEdit, str(folder / "cohort.csv"))
    click(ui.batchRunButton)
    click(ui.batchRunButton)
    qtbot.waitUntil(lambda: ui.batchRunButton.text == "Run", timeout=PATIENCE_MS)
    assert "Cancelled" in ui.batchLogText.plainText
    (folder / "cohort.csv").write_text("fixed,moving\nnowhere.nrrd,before.nrrd\n")
    click(ui.batchRunButton)
    qtbot.waitUntil(lambda: ui.batchRunButton.text == "Run", timeout=PATIENCE_MS)
    assert "line 2, fixed: no file" in ui.batchLogText.plainText
