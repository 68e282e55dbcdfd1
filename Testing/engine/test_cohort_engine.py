"""Many pairs by the real engine: what each row says reaches its registration."""

import contextvars
import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import write_labelled_pair

from FoundationRegistrationLib import Settings
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.encoders import EncoderInfo
from FoundationRegistrationLib.evaluation.overlap import dice
from FoundationRegistrationLib.features.source import EncoderSource, keep_encoders
from FoundationRegistrationLib.io.landmark_files import read_points

QUICK = {"encoder": "mind", "working-spacing-mm": "4", "initialization": "none", "iterations": "5"}
ROWS = """fixed;moving;name;fixed_labels;moving_labels;fluid_iterations;follow_labels;follow_image;follow_points;site
today.nrrd;before.nrrd;Ada/1;today_labels.nrrd;before_labels.nrrd;;before_labels.nrrd;before.nrrd;points.csv;A
today.nrrd;damaged.nrrd;lost;;;;;;;A
today.nrrd;before.nrrd;Bob;;;2;;;;B
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A table with a good pair, a damaged one, and a good one with a setting of its own; registered."""
    folder = tmp_path_factory.mktemp("cohort")
    write_labelled_pair(folder)
    (folder / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    (folder / "points.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    (folder / "cohort.csv").write_text(ROWS, encoding="utf-16")
    assert run(folder) == 1
    return folder


def run(folder, *more):
    options = [part for name, value in {**QUICK, "fluid-iterations": "0"}.items() for part in (f"--{name}", value)]
    output = ["--output", str(folder / "out"), "--progress", "none"]
    return main(["cohort", str(folder / "cohort.csv"), *output, *options, *more])


def rows(folder):
    with (folder / "out" / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_each_pair_has_what_register_writes_and_its_figures(cohort):
    found = rows(cohort)
    assert {name: row["state"] for name, row in found.items()} == {"Ada_1": "done", "lost": "failed", "Bob": "done"}
    for name, steps in (("Ada_1", 0), ("Bob", 2)):
        report = json.loads((cohort / "out" / name / "report.json").read_text())
        assert (report["settings"]["fluid_iterations"], report["settings"]["iterations"]) == (steps, 5)
        assert (cohort / "out" / name / "overview.png").stat().st_size > 0
    ada = found["Ada_1"]
    assert float(ada["mean_dice_before"]) < float(ada["mean_dice_after"])
    assert ada["verdict"] in ("good", "check") and float(ada["inverse_error_mm"]) < 0.5
    assert "damaged.nrrd" in found["lost"]["error"]
    assert "damaged.nrrd" in (cohort / "out" / "lost" / "log.txt").read_text()


def test_files_that_follow_the_moving_volume_are_carried_along(cohort):
    carried = cohort / "out" / "Ada_1" / "followed"
    assert {path.name for path in carried.iterdir()} == {
        "before_labels.nii.gz",
        "before.nii.gz",
        "points.mrk.json",
    }
    fixed = sitk.ReadImage(str(cohort / "today_labels.nrrd"))
    labels = sitk.ReadImage(str(carried / "before_labels.nii.gz"))  # with voxels of its own
    labels = sitk.Resample(labels, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert dice(fixed, labels)[1] == pytest.approx(float(rows(cohort)["Ada_1"]["mean_dice_after"]), abs=0.02)
    assert len(read_points(carried / "points.mrk.json").points) == 2
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort / "out" / "Ada_1" / "warped.nii.gz")))
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(carried / "before.nii.gz")))
    assert np.abs(warped - image).max() < 1e-2 * np.ptp(warped)


def test_a_second_run_does_nothing_but_what_failed_and_was_repaired(cohort):
    before = {path: path.stat().st_mtime_ns for path in (cohort / "out").glob("*/report.json")}
    (cohort / "damaged.nrrd").write_bytes((cohort / "before.nrrd").read_bytes())
    assert run(cohort, "--stages", "deformable") == 0
    assert len(before) == 2 and all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert rows(cohort)["lost"]["state"] == "done"
    assert not (cohort / "out" / "lost" / "log.txt").exists()


def test_other_labels_are_measured_without_registering_again(cohort):
    folder = cohort / "out" / "Ada_1"
    before = (folder / "transform.h5").stat().st_mtime_ns
    first = float(rows(cohort)["Ada_1"]["mean_dice_after"])
    labels = sitk.ReadImage(str(cohort / "before_labels.nrrd"))
    sitk.WriteImage(sitk.BinaryErode(labels, (4, 2, 1)), str(cohort / "other_labels.nrrd"))
    (cohort / "cohort.csv").write_text(ROWS.replace(";before_labels.nrrd;;", ";other_labels.nrrd;;"), "utf-16")
    assert run(cohort, "--evaluate-only") == 0
    assert float(rows(cohort)["Ada_1"]["mean_dice_after"]) < first - 0.05
    report = json.loads((folder / "report.json").read_text())
    assert report["inputs"]["moving_labels"]["path"].endswith("other_labels.nrrd")
    assert run(cohort) == 0  # all is done
    assert (folder / "transform.h5").stat().st_mtime_ns == before
    assert not (folder / ".evaluation.json.part").exists()


def test_a_network_is_loaded_once_for_pairs_with_the_same_settings():
    built = []

    def build(settings, device):
        built.append(settings.input_size)
        return object()

    info = EncoderInfo(name="one", build=build, channels=1, tokens=1, packaged_sha256="ab")

    def encoders(*inputs):
        cpu = torch.device("cpu")
        return [
            EncoderSource.from_settings(Settings(input_size=size, working_spacing_mm=spacing), info, cpu).on(cpu)
            for size, spacing in inputs
        ]

    encoders((64, 1.0), (64, 1.0))
    assert built == [64, 64]  # on its own each registration frees its memory

    def run():
        keep_encoders()
        first, second, _ = encoders((64, 1.0), (64, 2.0), (32, 2.0))
        assert first is second

    contextvars.copy_context().run(run)
    assert built == [64, 64, 64, 32]
