"""A report repeats its run, with the start it had; what cannot be repeated, or is not the same, is said."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import (
    body_points,
    empty_grid,
    field_image,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

import FoundationRegistrationLib
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.landmark_files import write_points
from FoundationRegistrationLib.io.landmarks import Landmarks

FAST = ("--progress", "none", "--encoder", "mind", "--working-spacing-mm", "6", "--iterations", "5")
COARSE = (*FAST, "--fluid-iterations", "0")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A pair that only a given start brings together, its landmarks, and two files of starts."""
    folder = tmp_path_factory.mktemp("case")
    fixed = volume(empty_grid("oblique"), lambda points: rigid_motion(smooth_warp(points)))
    moving = volume(empty_grid("sagittal", (3, -2, 4)))
    sitk.WriteImage(fixed, str(folder / "fixed.nii.gz"))
    sitk.WriteImage(moving, str(folder / "moving.nrrd"))
    mask = sitk.Cast(fixed > 50.0, sitk.sitkUInt8)
    sitk.WriteImage(mask, str(folder / "mask.nrrd"))
    points = body_points()[::40]
    for side, placed in (("fixed", points), ("moving", rigid_motion(points))):
        write_points(folder / f"{side}.mrk.json", Landmarks(("",) * len(points), placed))
    sitk.WriteTransform(rigid_transform(), str(folder / "rigid.tfm"))
    sitk.WriteImage(field_image(), str(folder / "field.nrrd"))
    return folder


def register(case, output, *options):
    command = ["register", str(case / "fixed.nii.gz"), str(case / "moving.nrrd"), "--output", str(output)]
    return main([*command, *map(str, options)])


def mapped(folder):
    return through(sitk.ReadTransform(str(folder / "transform.h5")), body_points())


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def landmark_options(case):
    return "--fixed-landmarks", case / "fixed.mrk.json", "--moving-landmarks", case / "moving.mrk.json"


STARTS = {
    "landmarks": lambda case: (*landmark_options(case), "--initialization", "landmarks"),
    "rigid": lambda case: ("--initial-transform", case / "rigid.tfm"),
    "field": lambda case: ("--initial-transform", case / "field.nrrd"),
    "found": lambda case: ("--initialization", "rigid", "--fixed-mask", case / "mask.nrrd"),
    "preset": lambda case: ("--preset", "lesion", "--regularization", "7", "--initial-transform", case / "rigid.tfm"),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_report_repeats_its_run_from_the_same_start(case, tmp_path, start, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    assert register(case, first, *COARSE, *STARTS[start](case)) == 0
    options = ("--fixed-mask", case / "mask.nrrd") if start == "found" else ()
    assert register(case, again, "--progress", "none", "--settings", first / "report.json", *options) == 0
    np.testing.assert_allclose(mapped(again), mapped(first), rtol=0, atol=1e-6)
    assert np.abs(mapped(first) - body_points()).max() > 1.0
    assert report_of(again)["settings"] == report_of(first)["settings"]
    kept, repeated = (report_of(folder)["start"] for folder in (first, again))
    assert (repeated["kind"], repeated["matrix"]) == (kept["kind"], kept["matrix"])
    assert "does not repeat" not in capsys.readouterr().err


def test_the_report_names_its_inputs_its_start_and_its_version(case, tmp_path):
    output = tmp_path / "result"
    options = ("--fixed-mask", case / "mask.nrrd", *landmark_options(case))
    assert register(case, output, *COARSE, "--initialization", "landmarks", *options) == 0
    report = report_of(output)
    files = {
        "fixed": "fixed.nii.gz",
        "moving": "moving.nrrd",
        "fixed_mask": "mask.nrrd",
        "fixed_landmarks": "fixed.mrk.json",
        "moving_landmarks": "moving.mrk.json",
    }
    assert {role: described["path"] for role, described in report["inputs"].items()} == {
        role: str(case / name) for role, name in files.items()
    }
    for role, name in files.items():
        assert report["inputs"][role]["sha256"] == hashlib.sha256((case / name).read_bytes()).hexdigest()
    start = report["start"]
    assert start["kind"] == "landmarks"
    assert start["sha256"] == hashlib.sha256((output / start["file"]).read_bytes()).hexdigest()
    matrix = np.array(start["matrix"])
    kept = sitk.ReadTransform(str(output / start["file"]))
    np.testing.assert_allclose(
        body_points() @ matrix[:3, :3].T + matrix[:3, 3], through(kept, body_points()), atol=1e-9
    )
    np.testing.assert_allclose(through(kept, body_points()), rigid_motion(body_points()), atol=1e-6)
    assert report["versions"]["FoundationRegistration"] == FoundationRegistrationLib.__version__


@pytest.fixture(scope="module")
def recorded(case, tmp_path_factory):
    """A run from a given transform, with a mask."""
    folder = tmp_path_factory.mktemp("recorded") / "result"
    options = ("--initial-transform", case / "rigid.tfm", "--fixed-mask", case / "mask.nrrd")
    assert register(case, folder, *COARSE, "--iterations", "0", *options) == 0
    return folder


def said(case, output, capsys, *options):
    assert register(case, output, "--progress", "none", *options) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "does not repeat" in line]
    assert [message for message in report_of(output)["messages"] if "does not repeat" in message] == lines
    return "".join(lines)


def test_what_is_not_the_same_is_said(case, recorded, tmp_path, capsys):
    settings = ("--settings", recorded / "report.json")
    mask = ("--fixed-mask", case / "mask.nrrd")
    assert said(case, tmp_path / "same", capsys, *settings, *mask) == ""
    assert "the fixed mask is missing now" in said(case, tmp_path / "no mask", capsys, *settings)
    more = said(case, tmp_path / "more", capsys, *settings, *mask, "--moving-lesion", write_lesion(case, tmp_path))
    assert "a moving lesion is given only now" in more
    assert "mask" not in more
    other = tmp_path / "other"
    shutil.copytree(case, other)
    assert said(other, tmp_path / "copied", capsys, *settings, "--fixed-mask", other / "mask.nrrd") == ""
    moved = sitk.ReadImage(str(case / "moving.nrrd"))
    moved.SetOrigin(np.add(moved.GetOrigin(), (1.0, 0.0, 0.0)).tolist())
    sitk.WriteImage(moved, str(other / "moving.nrrd"))
    words = said(other, tmp_path / "moved", capsys, *settings, *mask)
    assert f"the moving differs from '{case / 'moving.nrrd'}'" in words
    older = tmp_path / "older"
    shutil.copytree(recorded, older)
    report = {**report_of(recorded), "versions": {"FoundationRegistration": "0.0.1"}}
    (older / "report.json").write_text(json.dumps(report))
    words = said(case, tmp_path / "newer", capsys, "--settings", older / "report.json", *mask)
    assert f"then 0.0.1, now {FoundationRegistrationLib.__version__}" in words


def write_lesion(case, folder):
    image = sitk.ReadImage(str(case / "moving.nrrd"))
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[12:15, 16:19, 20:23] = 1
    lesion = sitk.GetImageFromArray(array)
    lesion.CopyInformation(image)
    sitk.WriteImage(lesion, str(folder / "lesion.nrrd"))
    return folder / "lesion.nrrd"


def refused(case, output, capsys, *options):
    capsys.readouterr()
    assert register(case, output, "--progress", "none", *options) == 2
    assert not output.exists()
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_start_that_cannot_be_repeated_is_refused_until_another_is_given(case, recorded, tmp_path, capsys):
    settings = ("--settings", tmp_path / "report.json")
    output = tmp_path / "result"
    shutil.copy(recorded / "report.json", tmp_path)
    assert "is missing" in refused(case, output, capsys, *settings)
    sitk.WriteTransform(sitk.TranslationTransform(3, (1, 2, 3)), str(tmp_path / "initial_transform.h5"))
    assert "has changed since" in refused(case, output, capsys, *settings)
    old = {key: value for key, value in report_of(recorded).items() if key not in ("start", "inputs")}
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert "does not include the initial transform" in refused(case, output, capsys, *settings)
    given = (*settings, "--initial-transform", case / "rigid.tfm", "--fixed-mask", case / "mask.nrrd")
    assert register(case, output, "--progress", "none", *given) == 0
    np.testing.assert_allclose(mapped(output), mapped(recorded), atol=1e-6)
    assert register(case, tmp_path / "free", "--progress", "none", *settings, "--initialization", "none") == 0
    assert report_of(tmp_path / "free")["start"]["kind"] == "none"


def test_a_damaged_record_is_refused_in_words(case, recorded, tmp_path, capsys):
    for start in ([], "rigid", 3, None):
        (tmp_path / "report.json").write_text(json.dumps({**report_of(recorded), "start": start}))
        line = refused(case, tmp_path / "result", capsys, "--settings", tmp_path / "report.json")
        assert "damaged" in line
    (tmp_path / "report.json").write_text(json.dumps({**report_of(recorded), "inputs": [1], "versions": 5}))
    assert "is missing" in refused(case, tmp_path / "result", capsys, "--settings", tmp_path / "report.json")


def test_a_file_of_settings_alone_says_nothing_of_a_start(case, recorded, tmp_path, capsys):
    settings = {**report_of(recorded)["settings"], "initialization": "none"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert said(case, tmp_path / "result", capsys, "--settings", tmp_path / "settings.json") == ""
    assert report_of(tmp_path / "result")["start"]["matrix"] == np.eye(4).tolist()
    contradiction = ("--settings", tmp_path / "settings.json", "--preset", "lesion")
    assert "another preset" in refused(case, tmp_path / "refused", capsys, *contradiction)


def test_the_version_is_declared_once_and_known_without_an_installation():
    package = Path(FoundationRegistrationLib.__file__).parent
    assert 'version = { attr = "FoundationRegistrationLib.__version__" }' in (
        package.with_name("pyproject.toml").read_text(encoding="utf-8")
    )
