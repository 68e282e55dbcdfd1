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


def choose_another_pair(panel: Any) -> list[str]:
    """Choose all that can be chosen for a pair; return the parameters that a cohort has no values for."""
    parameters, scene = panel._parameterNode, slicer.mrmlScene
    made = {
        kind: scene.AddNewNodeByClass(f"vtkMRML{kind}Node", f"former {kind}")
        for kind in ("ScalarVolume", "Segmentation", "MarkupsFiducial", "MarkupsROI", "Transform")
    }
    segment = made["Segmentation"].GetSegmentation().AddEmptySegment()
    of_kind = {
        "Segmentation": [
            f"{side}{kind}" for side in ("fixed", "moving") for kind in ("Mask", "Lesion", "Structures")
        ],
        "MarkupsFiducial": ["fixedDrivingPoints", "movingDrivingPoints", "fixedPoints", "movingPoints"],
        "MarkupsROI": ["region"],
        "Transform": ["initialTransform", "outputTransform"],
        "ScalarVolume": ["outputVolume", "petVolume"],
    }
    names = [(name, made[kind]) for kind, several in of_kind.items() for name in several]
    names += [(f"{side}{kind}Segment", segment) for side in ("fixed", "moving") for kind in ("Mask", "Lesion")]
    for name, value in names:
        parameters.setValue(name, value)
    parameters.movingVolume = made["ScalarVolume"]
    unfold(panel.ui.alongSection)
    panel.ui.followSelector.setCheckState(made["Segmentation"], qt.Qt.Checked)
    return [name for name, _ in names]


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
    parameters, former = panel._parameterNode, choose_another_pair(panel)
    click(ui.batchLoadButton)
    assert [name for name in former if parameters.getValue(name) not in (None, "")] == []
    assert panel._movesAlong.nodes() == []
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


def test_paths_may_begin_with_the_home_folder(
    panel: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from FoundationRegistrationBridge.cohort.job import CohortJob, full_path, results_folder
    from FoundationRegistrationBridge.errors import BridgeError

    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    ui = widgets(panel)
    for results in ("cohort_results", "elsewhere"):
        (tmp_path / results).mkdir()
        (tmp_path / results / "pairs.csv").write_text(f"{HEADER}{results},waiting,,,,,Bob\n")
    enter(ui.batchTableEdit, "~/cohort.csv")
    assert shown(ui.batchPairsTable)[0][0] == "cohort_results"
    enter(ui.batchFolderEdit, "~/elsewhere")
    assert shown(ui.batchPairsTable)[0][0] == "elsewhere"
    with pytest.raises(BridgeError, match="'elsewhere' is not registered"):
        panel.logic.loadPair("~/elsewhere", "elsewhere")
    assert results_folder(Path("~/cohort.csv")) == tmp_path / "cohort_results"
    job = CohortJob(Path("~/cohort.csv"), Path("~/elsewhere"), "default", {})
    assert job._export(tmp_path)[1:4] == [tmp_path / "cohort.csv", "--output", tmp_path / "elsewhere"]
    assert full_path("~no-such-user/a") == Path.cwd() / "~no-such-user" / "a"


HEADER = "name,state,error,verdict,reasons,messages,folder\n"


@pytest.fixture
def reader(module: Any) -> Any:
    """The reader of `pairs.csv`, as the application makes it: by its name in the module's file."""
    return module.FoundationRegistrationFileReader(None)


def test_only_the_table_of_a_cohort_is_read(reader: Any, tmp_path: Path) -> None:
    """Slicer asks each reader for each file, takes the surest, and wants values of exactly these types."""
    for name, content, ours in (
        ("pairs.csv", f"{HEADER}Eve,done,,good,,,Eve\n", True),
        ("other.csv", f"{HEADER}Eve,done,,good,,,Eve\n", False),
        ("sub/pairs.csv", "fixed,moving\na.nrrd,b.nrrd\n", False),
        ("empty/pairs.csv", "", False),
        ("binary/pairs.csv", "\xff\xfe\x00", False),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
        assert reader.canLoadFile(str(path)) is ours, name
        assert reader.canLoadFileConfidence(str(path)) == (0.9 if ours else 0.0)
    assert not reader.canLoadFile(str(tmp_path / "gone" / "pairs.csv"))
    assert isinstance(reader.extensions(), list) and all("csv" in each for each in reader.extensions())
    assert isinstance(reader.canLoadFileConfidence("a.csv"), float) and reader.fileType() and reader.description()


def test_a_dropped_cohort_is_shown_to_choose_a_pair(
    panel: Any, reader: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pairs.csv").write_text(f"{HEADER}Bob,waiting,,,,,Bob\nEve,done,,check,Look twice.,,Eve\n")
    opened: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)  # the stand-in has no main window
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: panel)
    ui = slicer.util.childWidgetVariables(panel.parent)
    enter(ui.batchTableEdit, str(folder / "cohort.csv"))
    assert reader.load({"fileName": str(folder / "pairs.csv")}) is True
    assert opened == ["FoundationRegistration"] and not ui.batchSection.collapsed
    assert shown(ui.batchPairsTable) == [["Bob", "waiting", ""], ["Eve", "check", "Look twice."]]
    assert ui.batchPairsTable.currentRow() == 1 and ui.batchLoadButton.enabled
    assert not ui.batchRunButton.enabled, "the table chosen before is not run into this folder"

    def no_main_window(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(slicer.util, "selectModule", no_main_window)
    assert reader.load({"fileName": str(folder / "pairs.csv")}) is False
