"""The command line as a user meets it: files in, files out, one-line errors, no traces after a failure."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort.figures import told_by
from FoundationRegistrationLib.evaluation.overlap import dice
from FoundationRegistrationLib.io.landmark_files import read_points
from FoundationRegistrationLib.spatial.points import positions_in

FAST = ("--encoder", "mind", "--working-spacing-mm", "6", "--iterations", "30", "--fluid-iterations", "10")
FAST += ("--progress", "none")
RESULTS = {"transform.h5", "inverse.h5", "initial_transform.h5", "warped.nii.gz", "report.json", "overview.png"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A phantom pair on disk; the fixed volume is stored sagittally, the grids differ."""
    folder = tmp_path_factory.mktemp("phantom")
    assert (
        main(["phantom", "longitudinal", "--output", str(folder), "--spacing-mm", "6", "--difficulty", "easy"]) == 0
    )
    return folder


@pytest.fixture(scope="module")
def registration(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registration") / "result"
    evaluation = [
        f"--{side}-{kind}={pair / f'{side}_{kind}{ending}'}"
        for side in ("fixed", "moving")
        for kind, ending in (("labels", ".nii.gz"), ("landmarks", ".mrk.json"))
    ]
    command = ["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "--output", str(folder)]
    assert main([*command, *FAST, *evaluation]) == 0
    return folder


def read(path):
    return sitk.ReadImage(str(path))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_register_writes_all_results_and_improves_the_match(registration):
    assert {path.name for path in registration.iterdir()} == RESULTS
    report = json.loads((registration / "report.json").read_text())
    labels, landmarks = report["evaluation"]["labels"], report["evaluation"]["landmarks"]
    assert labels["mean_dice_after"] > labels["mean_dice_before"] + 0.1
    assert landmarks["tre_mm_after"]["mean"] < 0.4 * landmarks["tre_mm_before"]["mean"]
    assert set(labels["volume_error"]) == {"1", "2", "3"}
    assert report["settings"]["encoder"] == "mind"
    assert report["versions"]["torch"]
    assert report["peak_memory_bytes"]["host"] > 0


def test_transform_file_alone_reproduces_the_warped_volume(pair, registration):
    fixed, moving = read(pair / "fixed.nii.gz"), read(pair / "moving.nii.gz")
    low = float(sitk.GetArrayViewFromImage(moving).min())
    transform = sitk.ReadTransform(str(registration / "transform.h5"))
    again = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, low))
    warped = sitk.GetArrayFromImage(read(registration / "warped.nii.gz"))
    assert np.abs(again - warped).max() <= 1e-3 * np.ptp(warped)


def test_apply_labels_forward_and_inverse(pair, registration, tmp_path):
    sides = {"forward": ("moving", "fixed"), "inverse": ("fixed", "moving")}
    for direction, (source, target) in sides.items():
        output = tmp_path / f"{direction}.nii.gz"
        command = ["apply", str(registration), "--labels", str(pair / f"{source}_labels.nii.gz")]
        command += ["--reference", str(pair / f"{target}.nii.gz"), "--output", str(output)]
        assert main([*command, "--direction", direction]) == 0
        overlap = dice(read(pair / f"{target}_labels.nii.gz"), read(output))
        assert overlap[1] > 0.85
        assert set(np.unique(sitk.GetArrayFromImage(read(output)))) <= {0, 1, 2, 3}


def test_apply_image_with_both_interpolations(pair, registration, tmp_path):
    warped = {}
    for interpolation in ("linear", "bspline"):
        output = tmp_path / f"{interpolation}.nii.gz"
        command = ["apply", str(registration), "--image", str(pair / "moving.nii.gz"), "--output", str(output)]
        command += ["--reference", str(pair / "fixed.nii.gz"), "--interpolation", interpolation]
        assert main(command) == 0
        warped[interpolation] = sitk.GetArrayFromImage(read(output))
    expected = sitk.GetArrayFromImage(read(registration / "warped.nii.gz"))
    np.testing.assert_allclose(warped["linear"], expected, atol=1e-3 * np.ptp(expected))
    assert np.abs(warped["bspline"] - expected).max() > 0.01 * np.ptp(expected)


def test_apply_points_there_and_back(pair, registration, tmp_path):
    original = read_points(pair / "moving_landmarks.mrk.json")
    there, back = tmp_path / "there.fcsv", tmp_path / "back.csv"
    command = ["apply", str(registration), "--points"]
    assert main([*command, str(pair / "moving_landmarks.mrk.json"), "--output", str(there)]) == 0
    assert main([*command, str(there), "--output", str(back), "--direction", "inverse"]) == 0
    error = np.linalg.norm(read_points(back).points - original.points, axis=1)
    assert error.mean() < 0.1
    truth = read_points(pair / "fixed_landmarks.mrk.json").points
    before = np.linalg.norm(original.points - truth, axis=1).mean()
    assert np.linalg.norm(read_points(there).points - truth, axis=1).mean() < 0.5 * before


def test_evaluate_agrees_with_the_report(pair, registration, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    command = ["evaluate", str(registration), "--json", "--output", str(output)]
    command += ["--fixed-landmarks", str(pair / "fixed_landmarks.mrk.json")]
    command += ["--moving-landmarks", str(pair / "moving_landmarks.mrk.json")]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(output.read_text())
    report = json.loads((registration / "report.json").read_text())
    assert printed["landmarks"]["tre_mm_after"]["mean"] == pytest.approx(
        report["evaluation"]["landmarks"]["tre_mm_after"]["mean"], abs=1e-6
    )


def test_landmarks_that_are_left_out_are_said_in_the_evaluation_and_in_the_table_of_a_cohort(
    tmp_path, registration, capsys
):
    for side, names in (("fixed", "abc"), ("moving", "ab")):
        lines = [f"{10 * number},0,5,{name}" for number, name in enumerate(names)]
        (tmp_path / f"{side}.csv").write_text("\n".join(["x,y,z,name", *lines]) + "\n")
    command = ["evaluate", str(registration), "--json", "--output", str(tmp_path / "evaluation.json")]
    command += [f"--{side}-landmarks={tmp_path / f'{side}.csv'}" for side in ("fixed", "moving")]
    assert main(command) == 0
    said = "Landmarks in one list only are omitted: c."
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["messages"] == [said] and evaluation["landmarks"]["count"] == 2
    assert said in capsys.readouterr().err
    assert told_by({"messages": ["Look twice."], "evaluation": evaluation})["messages"] == f"Look twice. {said}"


def test_evaluate_says_how_much_a_structure_has_grown(tmp_path, pair, registration, capsys):
    """A ball of 6 mm radius on a fine grid last year, of 8 mm on a coarser one today."""
    paths = []
    for side, radius, spacing in (("fixed", 8.0, (1.0, 1.0, 1.0)), ("moving", 6.0, (0.5, 0.5, 0.8))):
        volume = read(pair / f"{side}.nii.gz")
        corners = [volume.TransformIndexToPhysicalPoint(at) for at in ((0, 0, 0), [n - 1 for n in volume.GetSize()])]
        middle = np.mean(corners, axis=0)
        grid = sitk.Image([round(24.0 / step) for step in spacing], sitk.sitkUInt8)
        grid.SetSpacing(spacing)
        grid.SetOrigin((middle - 12.0).tolist())
        near = np.linalg.norm(positions_in(grid) - middle, axis=-1) < radius
        ball = sitk.GetImageFromArray(near.transpose(2, 1, 0).astype(np.uint8))
        ball.CopyInformation(grid)
        paths.append(tmp_path / f"{side}.nrrd")
        sitk.WriteImage(ball, str(paths[-1]))
    command = ["evaluate", str(registration), "--fixed-labels", str(paths[0]), "--moving-labels", str(paths[1])]
    assert main(command) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("1 "))
    volumes = [4.0 / 3.0 * np.pi * radius**3 / 1000.0 for radius in (6.0, 8.0)]
    found = re.search(r"([\d.]+) -> ([\d.]+) \(([+-]\d+) %\)", row)
    assert [float(found[1]), float(found[2])] == pytest.approx(volumes, rel=0.05)
    assert float(found[3]) == pytest.approx(137, abs=8)


def test_start_from_landmarks_and_from_a_transform_file(pair, registration, tmp_path):
    command = ["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), *FAST, "--iterations", "0"]
    command += ["--fluid-iterations", "0"]
    landmarks = ["--fixed-landmarks", str(pair / "fixed_landmarks.mrk.json")]
    landmarks += ["--moving-landmarks", str(pair / "moving_landmarks.mrk.json")]
    by_landmarks, by_file = tmp_path / "landmarks", tmp_path / "file"
    assert main([*command, "--output", str(by_landmarks), "--initialization", "landmarks", *landmarks]) == 0
    start = ["--initial-transform", str(registration / "transform.h5")]
    assert main([*command, "--output", str(by_file), *start, *landmarks]) == 0
    for folder in (by_landmarks, by_file):
        report = json.loads((folder / "report.json").read_text())
        assert report["initialization"] == "given transform"
        tre = report["evaluation"]["landmarks"]
        assert tre["tre_mm_after"]["mean"] < 0.5 * tre["tre_mm_before"]["mean"]


def test_encoders_are_listed(capsys):
    assert main(["encoders", "--json"]) == 0
    listed = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"litemedsam", "efficientnet-lite0", "mind"} <= listed


def volume(array, spacing=(2.0, 2.0, 2.0)):
    image = sitk.GetImageFromArray(array)
    if image.GetDimension() == 3:
        image.SetSpacing(spacing)
    return image


def bad_files(folder):
    """Each bad fixed volume by the word its error must hold."""
    rng = np.random.default_rng(0)
    good = rng.random((20, 20, 20)).astype(np.float32)
    cases = {
        "2D": volume(good[0]),
        "constant": volume(np.full((20, 20, 20), 7, np.int16)),
        "nan": volume(np.full((20, 20, 20), np.nan, np.float32)),
        "vector": sitk.GetImageFromArray(np.stack([good] * 3, axis=-1), isVector=True),
    }
    words = {"2D": "2D", "constant": "empty", "nan": "finite", "vector": "component"}
    for name, image in cases.items():
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    sitk.WriteImage(sitk.JoinSeries([volume(good), volume(good)]), str(folder / "4D.nii.gz"))
    (folder / "text.nii.gz").write_text("this is no image")
    header = "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\nencoding: raw\n"
    shear = "space directions: (1,0.5,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    flat = "space directions: (0,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    (folder / "sheared.nrrd").write_bytes((header + shear).encode() + bytes(range(64)))
    (folder / "flat.nrrd").write_bytes((header + flat).encode() + bytes(range(64)))
    found = {folder / f"{name}.nrrd": word for name, word in words.items()}
    return {
        **found,
        folder / "4D.nii.gz": "frame",
        folder / "text.nii.gz": "image",
        folder / "sheared.nrrd": "perpendicular",
        folder / "flat.nrrd": "header",
        folder / "missing.nii.gz": "does not exist",
    }


def expect_refusal(command, word, output, capsys):
    assert main(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("foundation-registration:")]
    assert len(lines) == 1
    assert word.lower() in lines[0].lower()
    assert not output.exists()


def test_bad_volumes_get_a_line_and_leave_nothing(pair, tmp_path, capsys):
    output = tmp_path / "result"
    for path, word in bad_files(tmp_path).items():
        before = files_below(tmp_path)
        command = ["register", str(path), str(pair / "moving.nii.gz"), "--output", str(output), *FAST]
        expect_refusal(command, word, output, capsys)
        assert files_below(tmp_path) == before


def test_bad_masks_settings_and_files_get_a_line(pair, tmp_path, capsys):
    fixed, output = read(pair / "fixed.nii.gz"), tmp_path / "result"
    empty = sitk.Image(fixed.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(fixed)
    sitk.WriteImage(empty, str(tmp_path / "empty.nrrd"))
    far = sitk.Image(fixed)
    far.SetOrigin((5000.0, 0.0, 0.0))
    sitk.WriteImage(far, str(tmp_path / "far.nrrd"))
    (tmp_path / "no.h5").write_text("no transform")
    (tmp_path / "settings.json").write_text('{"lambda": 3}')
    start = ["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "--output", str(output)]
    refusals = {
        ("--fixed-mask", str(tmp_path / "empty.nrrd")): "empty",
        ("--fixed-mask", str(pair / "moving_labels.nii.gz")): "grid",
        ("--moving-mask", str(tmp_path / "empty.nrrd")): "grid",
        ("--encoder", "sam3000"): "unknown encoder",
        ("--working-spacing-mm", "-1"): "between",
        ("--smoothing-kernel", "4"): "odd",
        ("--settings", str(tmp_path / "settings.json")): "unknown setting",
        ("--initial-transform", str(tmp_path / "no.h5")): "transform",
        ("--initialization", "landmarks"): "--fixed-landmarks",
        ("--fixed-labels", str(pair / "fixed_labels.nii.gz")): "--moving-labels",
    }
    for options, word in refusals.items():
        expect_refusal([*start, *FAST, *options], word, output, capsys)
    far_away = ["register", str(tmp_path / "far.nrrd"), str(pair / "moving.nii.gz"), "--output", str(output)]
    expect_refusal([*far_away, *FAST, "--initialization", "none"], "--initialization center", output, capsys)
    with pytest.raises(SystemExit) as refused:
        main([*start, "--preset", "nonsense"])
    assert refused.value.code == 2


def test_an_output_that_cannot_be_written_is_refused_before_the_work(pair, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "result"
    command = ["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "--output", str(output)]
    assert main([*command, *FAST]) == 2
    assert "folder" in capsys.readouterr().err
    assert files_below(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_leaves_nothing(pair, tmp_path, number):
    """The signal is sent in the middle of the work, as soon as the program reports that it encodes."""
    command = [sys.executable, "-m", "FoundationRegistrationLib", "register", str(pair / "fixed.nii.gz")]
    command += [str(pair / "moving.nii.gz"), "--output", str(tmp_path / "deep" / "result"), "--progress", "json"]
    command += ["--encoder", "mind", "--working-spacing-mm", "1.5", "--initialization", "center"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            if json.loads(line)["step"] == "encoding":
                os.kill(process.pid, number)
                break
        process.stdout.read()
    assert process.returncode == 128 + number
    assert files_below(tmp_path) == []


def test_progress_lines_for_programs(pair, tmp_path):
    command = [sys.executable, "-m", "FoundationRegistrationLib", "register", str(pair / "fixed.nii.gz")]
    command += [str(pair / "moving.nii.gz"), "--output", str(tmp_path / "result"), *FAST, "--progress", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert events[-1] == {"event": "done", "output": str(tmp_path / "result")}
