"""What the command line says of itself: what a run would take, what it wrote, what it will not replace."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from finished import coarse, finish
from small_runs import small_pair

from FoundationRegistrationLib import __version__
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.runtime.threads import limit_threads

FAST = ("--encoder", "mind", "--working-spacing-mm", "5", "--iterations", "3", "--fluid-iterations", "3")
FAST += ("--initialization", "none")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for name, image in zip(("fixed", "moving"), small_pair(), strict=True):
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    return folder


def register(pair, output, *options):
    return ["register", str(pair / "fixed.nrrd"), str(pair / "moving.nrrd"), "--output", str(output), *FAST, *options]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def test_a_run_ends_with_the_verdict_its_files_and_where_to_look(pair, tmp_path, capsys):
    assert main(register(pair, tmp_path / "result")) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[-3].startswith("Verdict: ")
    assert lines[-2].startswith(f"Written to {tmp_path / 'result'}: ")
    assert set(lines[-2].rpartition(": ")[2].split(", ")) == {path.name for path in (tmp_path / "result").iterdir()}
    assert lines[-1] == f"Look at {tmp_path / 'result' / 'overview.png'}"


def test_the_times_of_the_steps_add_up_to_the_time_of_the_run(pair, tmp_path, capsys):
    assert main(register(pair, tmp_path / "result", "--verbose")) == 0
    lines = capsys.readouterr().err.splitlines()
    begins = [place for place, line in enumerate(lines) if line.endswith(" s  reading")]
    steps = {
        found[2]: float(found[1]) for line in lines[begins[0] :] if (found := re.match(r"\s*([\d.]+) s  (.+)", line))
    }
    assert list(steps)[:2] == ["reading", "preparation"] and list(steps)[-2:] == ["inverse and warp", "writing"]
    (stated,) = (int(found[1]) for line in lines if (found := re.match(r"time: (\d+) s", line)))
    assert abs(stated - sum(steps.values())) < 1.0
    assert any(line.endswith(" s  encoding") for line in lines[: begins[0]])  # said when the step began


def test_quiet_says_nothing_and_no_bar_is_drawn_where_no_terminal_is(pair, tmp_path, capfd):
    assert main(register(pair, tmp_path / "quiet", "--quiet")) == 0
    assert capfd.readouterr() == ("", "")
    assert main(register(pair, tmp_path / "said")) == 0
    assert "\r" not in capfd.readouterr().err


def test_results_of_another_run_are_replaced_only_when_told(pair, tmp_path, capsys):
    output = tmp_path / "result"
    assert main(register(pair, output, "--maps", "--quiet")) == 0
    before = contents(output)
    assert main(register(pair, output)) == 2
    assert "holds the results of another run" in capsys.readouterr().err
    assert contents(output) == before
    assert main(register(pair, output, "--overwrite")) == 0
    after = contents(output)
    assert "jacobian.nii.gz" in before and "jacobian.nii.gz" not in after


def pair_volume(folder):
    sitk.WriteImage(coarse("oblique"), str(folder / "given.nii.gz"))
    return folder / "given.nii.gz"


def test_every_command_that_writes_refuses_what_is_there(tmp_path, capsys):
    registration = finish(tmp_path / "registration", coarse("RAS"), coarse("oblique"))
    points = tmp_path / "points.csv"
    points.write_text("x,y,z\n1,2,3\n4,5,6\n")
    there = tmp_path / "there.csv"
    there.write_text("mine")
    landmarks = ["--fixed-landmarks", points, "--moving-landmarks", points]
    for command in (
        ["apply", registration, "--points", points, "--output", there],
        ["export", registration, "--format", "itk", "--output", there],
        ["evaluate", registration, *landmarks, "--output", there],
    ):
        assert main([*map(str, command)]) == 2
        assert f"'{there}' exists; choose another --output, or add --overwrite" in capsys.readouterr().err
        assert there.read_text() == "mine"
    for header, voxels in (("k.nhdr", "k.raw.gz"), ("m.mhd", "m.zraw")):
        (tmp_path / voxels).write_text("mine")
        command = ["apply", registration, "--image", pair_volume(tmp_path), "--output", tmp_path / header]
        assert main([*map(str, command)]) == 2
        assert f"'{tmp_path / voxels}' exists" in capsys.readouterr().err
        assert (tmp_path / voxels).read_text() == "mine" and not (tmp_path / header).exists()
    assert main(["apply", str(registration), "--points", str(points), "--output", str(there), "--overwrite"]) == 0
    assert there.read_text() != "mine"
    phantom = [
        "phantom",
        "longitudinal",
        "--spacing-mm",
        "8",
        "--difficulty",
        "easy",
        "--output",
        str(tmp_path / "p"),
    ]
    assert main(phantom) == 0
    assert main(phantom) == 2


def test_a_dry_run_checks_and_estimates_and_writes_nothing(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    dry = register(pair, tmp_path / "result", "--dry-run", "--maps")
    assert main(dry) == 0
    said = capsys.readouterr().out
    settings, _ = json.JSONDecoder().raw_decode(said)
    assert settings["settings"]["encoder"] == "mind" and settings["settings"]["working_spacing_mm"] == 5.0
    assert "time: not known before the first run" in said
    assert 0.1 < float(re.search(r"memory: about ([\d.]+) GB", said)[1]) < 10
    assert re.search(r"working grid: about \d+ x \d+ x \d+ voxels of 5 mm", said)
    assert not (tmp_path / "result").exists() and not (tmp_path / "cache").exists()
    assert main(register(pair, tmp_path / "result")) == 0
    assert main([*dry, "--overwrite"]) == 0
    assert "as in 1 earlier run(s)" in capsys.readouterr().out
    assert main(register(pair, tmp_path / "other", "--dry-run", "--encoder", "sam-vit-h")) == 2
    assert "weights" in capsys.readouterr().err
    assert main(register(pair, tmp_path / "other", "--dry-run", "--stages", "rigid")) == 0
    assert "working grid" not in capsys.readouterr().out


def test_one_file_on_both_sides_is_said(pair, tmp_path, capsys):
    sitk.WriteImage(sitk.ReadImage(str(pair / "fixed.nrrd")) > 100, str(tmp_path / "mask.nrrd"))
    fixed = str(pair / "fixed.nrrd")
    masks = [f"--{side}-mask={tmp_path / 'mask.nrrd'}" for side in ("fixed", "moving")]
    assert main(["register", fixed, fixed, "--output", str(tmp_path / "a"), *FAST, "--dry-run", *masks]) == 0
    said = capsys.readouterr().err
    assert f"Fixed and moving volume are the same file '{fixed}'" in said
    assert "Fixed and moving mask are the same file" in said
    assert main(register(pair, tmp_path / "a", "--dry-run")) == 0
    assert "same file" not in capsys.readouterr().err


def test_what_the_dry_run_refuses_the_run_refuses_too(pair, tmp_path, capsys):
    image = sitk.ReadImage(str(pair / "moving.nrrd"))
    sitk.WriteImage(image[:, :, 3:4], str(tmp_path / "slice.nrrd"))
    command = ["register", str(pair / "fixed.nrrd"), str(tmp_path / "slice.nrrd"), *FAST, "--output"]
    for options in ([str(tmp_path / "a"), "--dry-run"], [str(tmp_path / "b")]):
        assert main([*command, *options]) == 2
        assert "is a single slice" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_dry_run_refuses_a_region_of_nothing_and_points_elsewhere_as_the_run_does(pair, tmp_path, capsys):
    sitk.WriteImage(sitk.ReadImage(str(pair / "fixed.nrrd")) > 1e9, str(tmp_path / "nothing.nrrd"))
    (tmp_path / "points.csv").write_text("x,y,z\n0,0,900\n")
    points = [f"--{side}-points={tmp_path / 'points.csv'}" for side in ("fixed", "moving")]
    for options, words in (
        ([f"--region={tmp_path / 'nothing.nrrd'}"], "region shows nothing"),
        (points, "outside the fixed volume"),
    ):
        for place in ([str(tmp_path / "a"), "--dry-run"], [str(tmp_path / "b")]):
            assert main(register(pair, *place, *options)) == 2
            assert words in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.fixture
def threads():
    """Put the number of threads back after a test."""
    import torch

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    before, of_torch = {name: os.environ.get(name) for name in names}, torch.get_num_threads()
    of_itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    yield lambda: (torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())
    limit_threads(of_torch)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(of_itk)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_threads_are_those_that_were_asked_for(pair, tmp_path, threads, capsys):
    assert main(register(pair, tmp_path / "result", "--threads", "2", "--quiet")) == 0
    assert threads() == (2, 2)
    assert "(2 threads)" in json.loads((tmp_path / "result" / "report.json").read_text())["device"]
    with pytest.raises(SystemExit) as refused:
        main(register(pair, tmp_path / "none", "--threads", "0"))
    assert refused.value.code == 2 and "give 1 or more" in capsys.readouterr().err


def helped(*command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_is_short_and_all_of_it_one_option_away(capsys):
    brief, whole = (helped("register", option, capsys=capsys) for option in ("--help", "--help-all"))
    for option in ("--output", "--preset", "--overwrite", "--dry-run", "--help-all"):
        assert option in brief
    assert "--smoothing-kernel" not in brief and "--smoothing-kernel" in whole and "--fixed-mask" in whole
    assert len(brief.splitlines()) < 50 < len(whole.splitlines())
    assert helped("--version", capsys=capsys).strip() == __version__


def test_evaluation_is_a_table_for_people_and_json_for_programs(tmp_path, capsys):
    registration = finish(tmp_path / "registration", coarse("RAS"), coarse("oblique"))
    shape = sitk.Image((20, 20, 20), sitk.sitkUInt8)
    shape[5:15, 5:15, 5:15] = 3
    sitk.WriteImage(shape, str(tmp_path / "labels.nrrd"))
    np.savetxt(tmp_path / "points.csv", np.eye(3) * 9, delimiter=",", header="x,y,z", comments="")
    command = ["evaluate", str(registration)]
    for side in ("fixed", "moving"):
        command += [f"--{side}-labels", str(tmp_path / "labels.nrrd")]
        command += [f"--{side}-landmarks", str(tmp_path / "points.csv")]
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    table = capsys.readouterr().out.splitlines()
    (label,) = figures["labels"]["labels"]
    assert f"1.000 -> {label['dice_after']:.3f}" in next(line for line in table if line.startswith("3 "))
    assert f"0.00 -> {figures['landmarks']['tre_mm_after']['mean']:.2f}" in table[-1]


def test_the_shell_completes_what_is_half_typed(tmp_path):
    """As the shell asks: argcomplete writes the answers to descriptor 8, here a file."""

    def completed(line):
        answers = tmp_path / "answers"
        environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        environment |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answers), "_ARGCOMPLETE_IFS": "\n"}
        script = "from FoundationRegistrationLib.cli.main import main; main([])"
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        return {answer.strip() for answer in answers.read_text().split("\n")}

    assert {"register", "apply", "encoders"} <= completed("foundation-registration ")
    assert completed("foundation-registration register a b --smoothing-k") == {"--smoothing-kernel"}
    assert completed("foundation-registration register a b --preset longi") == {"longitudinal"}
