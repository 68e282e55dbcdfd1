"""Many pairs with one call, of files and of nodes, by the real engine."""

import csv
import json

import pytest
import SimpleITK as sitk
from FoundationRegistrationBridge.cohort.batch import register_batch
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.scene.transforms import RECORD
from nodes import volume_node
from volumes import write_labelled_pair

QUICK = {
    "encoder": "mind",
    "working_spacing_mm": 4.0,
    "initialization": "none",
    "iterations": 20,
    "fluid_iterations": 0,
}


@pytest.fixture
def folder(tmp_path):
    """Volumes and labels of one good pair."""
    write_labelled_pair(tmp_path)
    return tmp_path


def write_table(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_a_table_one_of_them_damaged(folder):
    (folder / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    table = write_table(
        folder / "cohort.csv",
        "fixed,moving,fixed_labels,moving_labels,name\n"
        "today.nrrd,damaged.nrrd,,,lost\n"
        "today.nrrd,before.nrrd,today_labels.nrrd,before_labels.nrrd,Ada/1\n",
    )
    events = []
    results = register_batch(table, "longitudinal", on_progress=lambda *event: events.append(event), **QUICK)
    assert [result.name for result in results] == ["lost", "Ada_1"]
    assert "damaged.nrrd" in results[0].error
    assert not results[1].error
    output = folder / "cohort_results"
    assert (output / "Ada_1" / "transform.h5").is_file()
    assert (output / "Ada_1" / "overview.png").is_file()
    with (output / "pairs.csv").open(newline="") as file:
        lost, found = csv.DictReader(file)
    assert lost["error"] == results[0].error
    assert found["messages"] == " ".join(results[1].record["messages"])
    assert float(found["mean_dice_before"]) < float(found["mean_dice_after"])
    assert float(found["inverse_error_mm"]) < 0.5
    assert {"Ada_1", "lost", "pairs.csv", "summary.md"} <= {path.name for path in output.iterdir()}
    assert [event[1:3] for event in events][-1] == (2, 2)
    assert events[-1][3:] == ("done", 1.0)
    (folder / "damaged.nrrd").write_bytes((folder / "before.nrrd").read_bytes())
    again = register_batch(table, "longitudinal", **QUICK)
    assert not again[0].error and again[1].record == results[1].record  # the second is not registered again


def test_nodes_one_pair_of_them_unsuitable(scene, folder):
    fixed = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    moving = volume_node(scene, sitk.ReadImage(str(folder / "before.nrrd")), "before")
    results = register_batch([(fixed, fixed), (fixed, moving)], "longitudinal", output_folder=folder / "out", **QUICK)
    assert "both fixed and moving" in results[0].error
    assert results[1].transform_node.GetName() == "before to today"
    assert results[1].record["settings"]["preset"] == "longitudinal"
    assert len((folder / "out" / "pairs.csv").read_text().splitlines()) == 3


def test_what_the_files_of_nodes_say_of_themselves_stands_first(scene, folder):
    path = folder / "before.nii"
    sitk.WriteImage(sitk.ReadImage(str(folder / "before.nrrd")), str(path))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # the codes of the orientation: none
    path.write_bytes(content)
    fixed = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    moving = volume_node(scene, sitk.ReadImage(str(folder / "before.nrrd")), "before")
    moving.AddDefaultStorageNode()
    moving.GetStorageNode().SetFileName(str(path))
    result = register_batch([(fixed, moving)], output_folder=folder / "out", **QUICK)[0]
    assert "orientation" in result.record["messages"][0]
    assert "moving" in result.record["messages"][0]
    assert json.loads(result.transform_node.GetAttribute(RECORD)) == result.record
    with (folder / "out" / "pairs.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["messages"].startswith(result.record["messages"][0])


def test_what_is_in_the_way_of_the_results_is_said_before_the_first_run(folder):
    table = write_table(folder / "cohort.csv", "fixed,moving,name\ntoday.nrrd,before.nrrd,one\n")
    in_the_way = folder / "cohort_results"
    events = []

    def refused(words):
        with pytest.raises(BridgeError, match=words):
            register_batch(table, on_progress=lambda *event: events.append(event))
        assert not events

    in_the_way.write_text("a file")
    refused("is a file and in the way")
    in_the_way.unlink()
    (in_the_way / "pairs.csv").mkdir(parents=True)
    refused("is a folder and in the way")
    (in_the_way / "pairs.csv").rmdir()
    (in_the_way / "one").write_text("a file")
    refused("is a file and in the way")


@pytest.mark.parametrize("pairs", [[], [("a.nrrd", "b.nrrd")], "three", "one", 7])
def test_what_is_no_list_of_pairs_is_refused_in_words(scene, folder, pairs):
    node = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    given = {"three": [(node, node, node)], "one": node}.get(pairs, pairs) if isinstance(pairs, str) else pairs
    with pytest.raises(BridgeError, match=r"Give pairs of volume nodes"):
        register_batch(given, **QUICK)


def test_wrong_setting_is_refused_before_anything_runs(folder):
    with pytest.raises(BridgeError, match="regularisation"):
        register_batch(write_table(folder / "cohort.csv", "fixed,moving\na,b\n"), regularisation=2.0)
    with pytest.raises(BridgeError, match="cannot be read"):
        register_batch(folder / "nowhere.csv")
    table = write_table(
        folder / "cohort.csv", "fixed,moving,name\ntoday.nrrd,before.nrrd,a\ntoday.nrrd,gone.nrrd,A\n"
    )
    with pytest.raises(BridgeError, match="lines 2, 3: the same name 'a'; line 3, moving: no file"):
        register_batch(table, **QUICK)
    assert not (folder / "cohort_results").exists()


def test_a_batch_that_is_cancelled_keeps_what_is_done(folder):
    rows = "today.nrrd,before.nrrd,one\ntoday.nrrd,before.nrrd,two\n"
    table = write_table(folder / "cohort.csv", "fixed,moving,name\n" + rows)

    def cancel_in_the_second(name, number, count, step, fraction):
        if name == "two":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_batch(table, on_progress=cancel_in_the_second, **QUICK)
    output = folder / "cohort_results"
    assert (output / "one" / "pair.json").is_file() and not (output / "two" / "pair.json").exists()
