"""`foundation-registration series`: files in, files out; what is done is kept; labels and points follow a frame."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dynamic import EVEN_S, MOTIONS, inside, moved, settings, small_series
from volumes import body_depth, on_grid, points_of

from FoundationRegistrationLib import Series, Settings
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.evaluation.overlap import dice
from FoundationRegistrationLib.io.landmark_files import read_points, write_points
from FoundationRegistrationLib.io.landmarks import Landmarks

PAGES = Path(__file__).parents[2] / "Resources" / "Documentation" / "pages"
FAST = ("--device", "cpu", "--initialization", "none", "--working-spacing-mm", "4", "--iterations", "20")
FAST += ("--fluid-iterations", "10", "--progress", "none")


def nifti(series, path):
    sitk.WriteImage(sitk.JoinSeries(list(series.frames), EVEN_S[0], EVEN_S[1] - EVEN_S[0]), str(path))
    return path


@pytest.fixture(scope="module")
def series():
    return small_series("sagittal", sitk.sitkInt16, EVEN_S)


@pytest.fixture(scope="module")
def registered(series, tmp_path_factory):
    """The folder of the results, and what was said."""
    folder = tmp_path_factory.mktemp("series")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        command = ["series", str(nifti(series, folder / "dce.nii.gz")), "--output", str(folder / "result")]
        assert main([*command, *FAST]) == 0, said.getvalue()
    return folder / "result", said.getvalue()


def test_results_report_and_table(series, registered):
    folder, said = registered
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"frame_0{index}" for index in range(3)),
        "overview.png",
        "report.json",
        "series.nii.gz",
    ]
    corrected = nibabel.load(folder / "series.nii.gz")
    assert corrected.shape == (*series.frames[0].GetSize(), 3)
    assert corrected.header.get_xyzt_units() == ("mm", "sec")
    assert corrected.header.get_zooms()[3] == EVEN_S[1] - EVEN_S[0]
    assert corrected.get_data_dtype() == np.int16
    report = json.loads((folder / "report.json").read_text())
    assert report["series"]["reference"] == 0
    assert len(report["series"]["sha256"]) == 64
    assert [frame["time_s"] for frame in report["frames"]] == list(EVEN_S)
    rows = [line.split() for line in said.splitlines() if line.split()[:1] in (["0"], ["1"], ["2"])]
    assert [row[2] for row in rows] == ["reference", *(frame["verdict"] for frame in report["frames"][1:])]
    assert "outside enhancing tissue" in said


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_labels_of_a_frame_are_carried_to_the_reference_and_back(series, registered, tmp_path, direction):
    folder, _ = registered
    grid = series.frames[0]
    points = points_of(grid)
    sides = {
        "frame": on_grid((body_depth(moved(MOTIONS[1])(points)) > 8.0).astype(np.uint8), grid),
        "reference": on_grid((body_depth(points) > 8.0).astype(np.uint8), grid),
    }
    source, target = ("frame", "reference") if direction == "forward" else ("reference", "frame")
    sitk.WriteImage(sides[source], str(tmp_path / "labels.nii.gz"))
    command = ["apply", str(folder), "--frame", "1", "--labels", str(tmp_path / "labels.nii.gz")]
    command += ["--output", str(tmp_path / "carried.nii.gz"), "--direction", direction]
    assert main(command) == 0
    carried = sitk.ReadImage(str(tmp_path / "carried.nii.gz"))
    assert carried.GetSize() == grid.GetSize()
    assert np.allclose(carried.GetOrigin(), grid.GetOrigin(), atol=1e-3)
    after, before = dice(sides[target], carried)[1], dice(sides[target], sides[source])[1]
    assert after > before
    assert after > 0.93


def test_what_was_drawn_on_the_reference_frame_stays_where_it_is(series, registered, tmp_path):
    folder, _ = registered
    drawn = on_grid((body_depth(points_of(series.frames[0])) > 8.0).astype(np.uint8), series.frames[0])
    sitk.WriteImage(drawn, str(tmp_path / "labels.nii.gz"))
    command = ["apply", str(folder), "--frame", "0", "--labels", str(tmp_path / "labels.nii.gz")]
    assert main([*command, "--output", str(tmp_path / "carried.nii.gz")]) == 0
    carried = sitk.ReadImage(str(tmp_path / "carried.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(carried), sitk.GetArrayFromImage(drawn))


def test_an_export_of_a_series_asks_for_one_of_its_frames(registered, tmp_path, capsys):
    folder, _ = registered
    command = ["export", str(folder), "--format", "itk", "--output", str(tmp_path / "field.nii.gz")]
    assert main(command) == 2
    assert f"give one of them, such as '{folder / 'frame_02'}'" in capsys.readouterr().err
    command[1] = str(folder / "frame_02")
    assert main(command) == 0


def test_points_of_a_frame_are_mapped_to_the_reference(series, registered, tmp_path):
    folder, _ = registered
    there = inside(series.frames[0])[::101]
    names = tuple(f"P{index}" for index in range(len(there)))
    write_points(tmp_path / "points.mrk.json", Landmarks(names, there))
    command = ["apply", str(folder), "--frame", "2", "--points", str(tmp_path / "points.mrk.json")]
    assert main([*command, "--output", str(tmp_path / "mapped.mrk.json")]) == 0
    true = moved(MOTIONS[2])(there)
    found = read_points(tmp_path / "mapped.mrk.json").points
    # A quarter of a coarse voxel is left; in the wrong direction they would be twice as far off as before.
    assert np.linalg.norm(found - true, axis=1).mean() < 0.6 * np.linalg.norm(there - true, axis=1).mean()


@pytest.mark.parametrize(
    ("frame", "words"), [((), "--frame"), (("--frame", "7"), "0 to 2"), (("--frame", "-1"), "0 to 2")]
)
def test_a_frame_that_is_not_there_is_named(registered, tmp_path, capsys, frame, words):
    folder, _ = registered
    write_points(tmp_path / "p.mrk.json", Landmarks(("P",), np.zeros((1, 3))))
    command = [
        "apply",
        str(folder),
        "--points",
        str(tmp_path / "p.mrk.json"),
        "--output",
        str(tmp_path / "q.mrk.json"),
    ]
    assert main([*command, *frame]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "q.mrk.json").exists()


def when_of(folder):
    return {path.name: (path / "transform.h5").stat().st_mtime_ns for path in folder.glob("frame_*")}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupted_series_keeps_what_is_done_and_goes_on(series, tmp_path, capsys):
    """The signal is sent while frame 2 is encoded; the second run registers only that one."""
    file, result = nifti(series, tmp_path / "dce.nii.gz"), tmp_path / "result"
    options = [str(file), "--output", str(result), *FAST[:-1], "json"]
    command = [sys.executable, "-m", "FoundationRegistrationLib", "series", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if json.loads(line).get("step") == "frame 2: encoding":
                os.kill(process.pid, signal.SIGINT)
                break
        _, said = process.communicate()
    assert process.returncode == 130
    assert "give the same command again" in said
    assert [path.name for path in result.iterdir()] == ["frame_01"]
    before = when_of(result)
    capsys.readouterr()
    assert main(["series", *options]) == 0
    steps = {json.loads(line).get("step", "").split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert "frame 1" not in steps
    assert "frame 2" in steps
    assert when_of(result)["frame_01"] == before["frame_01"]
    assert json.loads((result / "report.json").read_text())["frames"][1]["state"] == "registered"


def test_another_interpolation_registers_no_frame_again(series, registered, tmp_path):
    result = tmp_path / "result"
    shutil.copytree(registered[0], result)
    before, smooth = when_of(result), (result / "series.nii.gz").read_bytes()
    command = ["series", str(registered[0].parent / "dce.nii.gz"), "--output", str(result), *FAST]
    assert main([*command, "--overwrite", "--interpolation", "linear"]) == 0
    after = when_of(result)
    assert after["frame_01"] == before["frame_01"] and after["frame_02"] == before["frame_02"]
    assert (result / "series.nii.gz").read_bytes() != smooth
    assert json.loads((result / "report.json").read_text())["settings"]["interpolation"] == "linear"


def test_a_frame_done_with_other_settings_or_damaged_since_is_registered_again(series, registered, tmp_path):
    from FoundationRegistrationLib.series.saving import FolderStore

    folder, _ = registered
    key = json.loads((folder / "frame_01" / "report.json").read_text())["frame"]["key"]
    store = FolderStore(folder, 3)
    found = store.load(1, key)
    assert found.state == "registered"
    assert found.motion_mm[1] > 1.0
    assert store.load(1, "of other settings") is None
    assert store.load(2, key) is None
    copy = tmp_path / "frame_01"
    copy.mkdir()
    for path in (folder / "frame_01").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert FolderStore(tmp_path, 3).load(1, key) is not None
    (copy / "transform.h5").write_bytes((folder / "frame_02" / "transform.h5").read_bytes())
    assert FolderStore(tmp_path, 3).load(1, key) is None


def single_volume(folder, series):
    sitk.WriteImage(series.frames[0], str(folder / "one.nii.gz"))
    return [str(folder / "one.nii.gz")]


def no_such_reference(folder, series):
    return [str(nifti(series, folder / "dce.nii.gz")), "--reference", "3"]


def no_reference_at_all(folder, series):
    return [str(nifti(series, folder / "dce.nii.gz")), "--reference", "first"]


def unknown_encoder(folder, series):
    return [str(nifti(series, folder / "dce.nii.gz")), "--encoder", "nonsense"]


def masked(folder, series, mask):
    sitk.WriteImage(mask, str(folder / "mask.nrrd"))
    return [str(nifti(series, folder / "dce.nii.gz")), "--mask", str(folder / "mask.nrrd")]


def empty_mask(folder, series):
    return masked(folder, series, sitk.Cast(series.frames[0] * 0, sitk.sitkUInt8))


def mask_elsewhere(folder, series):
    mask = sitk.Cast(series.frames[0] > 0, sitk.sitkUInt8)
    mask.SetOrigin([each + 500.0 for each in mask.GetOrigin()])
    return masked(folder, series, mask)


def nothing_to_register(folder, series):
    frames = [series.frames[0], *(frame * 0 for frame in series.frames[1:])]
    sitk.WriteImage(sitk.JoinSeries(frames), str(folder / "empty.nii.gz"))
    return [str(folder / "empty.nii.gz")]


@pytest.mark.parametrize(
    "make",
    [
        single_volume,
        no_such_reference,
        no_reference_at_all,
        unknown_encoder,
        nothing_to_register,
        empty_mask,
        mask_elsewhere,
    ],
    ids=lambda make: make.__name__,
)
def test_bad_input_is_one_sentence_and_nothing_is_written(series, tmp_path, capsys, make):
    command = ["series", *make(tmp_path, series), "--output", str(tmp_path / "deep" / "result"), "--progress", "none"]
    assert main([*command, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith(".")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("option", ["--output", "--dicom"])
def test_a_folder_that_cannot_be_written_is_said_before_the_first_frame(
    series, tmp_path, capsys, monkeypatch, option
):
    monkeypatch.setattr("FoundationRegistrationLib.series.registration.register_series", None)  # is not called
    monkeypatch.setattr("FoundationRegistrationLib.cli.series._sources", lambda arguments: [])
    (tmp_path / "taken").write_text("mine")
    command = ["series", str(nifti(series, tmp_path / "dce.nii.gz")), "--output", str(tmp_path / "result"), *FAST]
    assert main([*command, option, str(tmp_path / "taken" / "deeper")]) == 2
    assert "is not a folder; choose another" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine" and not (tmp_path / "result").exists()


def test_the_commands_and_the_example_of_the_documentation_run(tmp_path, monkeypatch):
    page = (PAGES / "dynamic-series.md").read_text(encoding="utf-8")
    text = page.split("## Kinetic maps")[0]  # which a test of its own runs
    commands = [line.split() for line in re.findall(r"^    foundation-registration (.*)$", text, re.MULTILINE)]
    series = small_series("oblique", sitk.sitkInt16, EVEN_S)
    grid = series.frames[1]
    monkeypatch.chdir(tmp_path)
    nifti(Series(series.frames[:2]), tmp_path / "dce.nii.gz")
    sitk.WriteImage(on_grid((body_depth(points_of(grid)) > 12.0).astype(np.uint8), grid), "lesion.nrrd")
    write_points(tmp_path / "clips.mrk.json", Landmarks(("clip",), np.ones((1, 3))))
    assert [command[0] for command in commands] == ["series", "apply", "apply"]
    for command in commands:
        assert main([*command, *(FAST if command[0] == "series" else ())]) == 0
        assert (tmp_path / command[command.index("--output") + 1]).exists()
    names, quick = {}, settings()
    monkeypatch.setattr(Settings, "from_preset", lambda preset: quick)
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(example, "dynamic-series.md", "exec"), names)
    assert len(names["result"].corrected.frames) == 2


def test_the_input_is_not_overwritten(series, tmp_path, capsys):
    nifti(series, tmp_path / "series.nii.gz")
    before = (tmp_path / "series.nii.gz").read_bytes()
    assert main(["series", str(tmp_path / "series.nii.gz"), "--output", str(tmp_path), *FAST]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "series.nii.gz").read_bytes() == before


def test_kinetic_maps_say_which_frames_show_the_motion(series, tmp_path, capsys):
    first, second, third = series.frames
    broken = Series((first, second * 0, third, third))
    command = ["series", str(nifti(broken, tmp_path / "dce.nii.gz")), "--output", str(tmp_path / "result"), *FAST]
    assert main(command) == 0
    capsys.readouterr()
    corrected = tmp_path / "result" / "series.nii.gz"
    maps = ["kinetics", str(corrected), "--early", "60", "--output", str(tmp_path / "maps")]
    assert main(maps) == 0
    said = "These frames could not be registered to the others and are as acquired: 1."
    assert said in capsys.readouterr().err
    [warning, *_] = json.loads((tmp_path / "maps" / "kinetics.json").read_text())["warnings"]
    assert said in warning
    corrected.rename(tmp_path / "result" / "elsewhere.nii.gz")
    maps[1] = str(tmp_path / "result" / "elsewhere.nii.gz")
    assert main([*maps, "--overwrite"]) == 0
    assert "as acquired" not in capsys.readouterr().err
