"""Many pairs with one call, of files and of nodes, by the real engine."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationRegistrationBridge.batch import register_batch
from FoundationRegistrationBridge.errors import BridgeError
from nodes import volume_node
from volumes import body_depth, empty_grid, on_grid, points_of, smooth_warp, volume

QUICK = {"encoder": "mind", "working_spacing_mm": 4.0, "initialization": "none", "iterations": 20}


@pytest.fixture
def folder(tmp_path):
    """Volumes and labels of one good pair."""
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    images = {
        "today": volume(fixed, smooth_warp),
        "before": volume(moving),
        "today_labels": on_grid((body_depth(smooth_warp(points_of(fixed))) > 0).astype(np.uint8), fixed),
        "before_labels": on_grid((body_depth(points_of(moving)) > 0).astype(np.uint8), moving),
    }
    for name, image in images.items():
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    return tmp_path


def write_table(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_a_table_one_of_them_missing(folder):
    table = write_table(
        folder / "cohort.csv",
        "fixed,moving,fixed_labels,moving_labels,name\n"
        "today.nrrd,missing.nrrd,,,lost\n"
        "today.nrrd,before.nrrd,today_labels.nrrd,before_labels.nrrd,Ada/1\n",
    )
    events = []
    results = register_batch(table, "longitudinal", on_progress=lambda *event: events.append(event), **QUICK)
    assert [result.name for result in results] == ["lost", "Ada_1"]
    assert "missing.nrrd" in results[0].error
    assert not results[1].error
    output = folder / "cohort_results"
    assert (output / "Ada_1" / "transform.h5").is_file()
    assert (output / "Ada_1" / "overview.png").is_file()
    with (output / "results.csv").open(newline="") as file:
        lost, found = csv.DictReader(file)
    assert lost["error"] == results[0].error
    assert float(found["mean_dice_before"]) < float(found["mean_dice_after"])
    assert float(found["inverse_error_mm"]) < 0.5
    assert sorted(path.name for path in output.iterdir()) == ["Ada_1", "results.csv"]
    assert [event[1:3] for event in events][-1] == (2, 2)
    assert events[-1][3:] == ("done", 1.0)


def test_nodes_one_pair_of_them_unsuitable(scene, folder):
    fixed = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    moving = volume_node(scene, sitk.ReadImage(str(folder / "before.nrrd")), "before")
    results = register_batch([(fixed, fixed), (fixed, moving)], "longitudinal", output_folder=folder / "out", **QUICK)
    assert "both fixed and moving" in results[0].error
    assert results[1].transform_node.GetName() == "before to today"
    assert results[1].record["settings"]["preset"] == "longitudinal"
    assert len((folder / "out" / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fixed,moved\na,b\n", "unknown column 'moved'"),
        ("fixed\na\n", "lacks the column"),
        ("fixed,moving\na.nii,\n", "Line 2"),
        ("", "lacks the column"),
    ],
)
def test_unsuitable_table_is_refused_before_anything_runs(folder, text, words):
    with pytest.raises(BridgeError, match=words):
        register_batch(write_table(folder / "cohort.csv", text))
    assert not (folder / "cohort_results").exists()


def test_wrong_setting_is_refused_before_anything_runs(folder):
    with pytest.raises(BridgeError, match="regularisation"):
        register_batch(write_table(folder / "cohort.csv", "fixed,moving\na,b\n"), regularisation=2.0)
    with pytest.raises(BridgeError, match="cannot be read"):
        register_batch(folder / "nowhere.csv")
