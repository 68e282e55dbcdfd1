"""The files of the commands: no input is overwritten, a full disk is noticed, results of a killed run are whole."""

import itertools
import os
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from faults import ended, fork, kill_at, largest_file

from FoundationRegistrationLib.cli.files import PHANTOM, RESULTS
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import OutputError
from FoundationRegistrationLib.files.outputs import staged_folder
from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.io.volumes import write_volume_directly

POSIX = pytest.mark.skipif(os.name == "nt", reason="limits and processes of POSIX")
FAST = ("--encoder", "mind", "--working-spacing-mm", "4", "--iterations", "0", "--progress", "none")


def volume(seed=0, kind=np.float32):
    """An oblique, anisotropic volume that hardly gets smaller when it is compressed."""
    image = sitk.GetImageFromArray((np.random.default_rng(seed).normal(size=(16, 24, 32)) * 1000).astype(kind))
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-20.0, 10.0, 5.0))
    image.SetDirection(sitk.VersorTransform((0.6, 0.0, 0.8), 0.4).GetMatrix())
    return image


@pytest.fixture
def files(tmp_path):
    """A registration that shifts, and files to carry with it, in a folder of their own."""
    inputs, registration = tmp_path / "inputs", tmp_path / "registration"
    inputs.mkdir()
    registration.mkdir()
    shift = sitk.TranslationTransform(3, (2.0, 0.0, 1.0))
    write_transform(sitk.CompositeTransform([shift]), registration / "transform.h5")
    write_transform(sitk.CompositeTransform([shift.GetInverse()]), registration / "inverse.h5")
    sitk.WriteImage(volume(), str(inputs / "moving.nii.gz"), useCompression=True)
    sitk.WriteImage(volume(1), str(inputs / "fixed.nii.gz"), useCompression=True)
    (inputs / "points.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def apply(files, kind, output, source=None):
    source = source or files / "inputs" / ("points.csv" if kind == "--points" else "moving.nii.gz")
    reference = files / "inputs" / "fixed.nii.gz"
    command = ["apply", str(files / "registration"), kind, str(source), "--output", str(output)]
    return main([*command, "--reference", str(reference), "--overwrite"])


# ---- inputs are kept ----


def refused(command, capsys, before, folder):
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "choose another" in said
    assert contents(folder) == before


@pytest.mark.parametrize("link", ["as it is", "relative", "symbolic link", "hard link", "folder by symbolic link"])
@pytest.mark.parametrize("name", RESULTS)
def test_register_overwrites_no_input(files, name, link, capsys, monkeypatch):
    result = files / "result"
    result.mkdir()
    given = result / name
    shutil.copy(files / "inputs" / "moving.nii.gz", given)
    output = result
    if link == "relative":
        monkeypatch.chdir(files)
        given = f"inputs/../result/{name}"
    elif link == "folder by symbolic link":
        output = files / "shortcut"
        output.symlink_to(result)
    elif link != "as it is":
        given = files / "elsewhere.nii.gz"
        given.symlink_to(result / name) if link == "symbolic link" else given.hardlink_to(result / name)
    before = contents(files)
    moving = files / "inputs" / "moving.nii.gz"
    for options in (
        [given, moving],
        [moving, given],
        [moving, moving, "--initial-transform", given],
        [moving, moving, "--fixed-mask", given],
        [moving, moving, "--settings", given],
    ):
        refused(["register", *options, "--output", output, *FAST], capsys, before, files)


@pytest.mark.parametrize("name", RESULTS)
def test_apply_and_evaluate_overwrite_no_registration(files, name, capsys):
    target = files / "registration" / name
    if not target.exists():
        target.write_text("a result")
    inputs, before = files / "inputs", contents(files)
    common = ["apply", files / "registration", "--reference", inputs / "fixed.nii.gz", "--output", target]
    for kind in ("--image", "--labels"):
        refused([*common, kind, inputs / "moving.nii.gz"], capsys, before, files)
    landmarks = [f"--{side}-landmarks={inputs / 'points.csv'}" for side in ("fixed", "moving")]
    refused(["evaluate", files / "registration", *landmarks, "--output", target], capsys, before, files)


@pytest.mark.parametrize("name", ["moving.nii.gz", "fixed.nii.gz", "points.csv", "MOVING.nii.gz"])
def test_apply_and_evaluate_overwrite_no_input(files, name, capsys):
    inputs = files / "inputs"
    if name == "MOVING.nii.gz" and not (inputs / name).exists():
        pytest.skip("this file system tells capitals from small letters")
    before = contents(files)
    for output in (inputs / name, inputs / ".." / "inputs" / name):
        for kind in ("--image", "--points"):
            source = inputs / ("points.csv" if name == "points.csv" else "moving.nii.gz")
            command = ["apply", files / "registration", kind, source, "--reference", inputs / "fixed.nii.gz"]
            refused([*command, "--output", output], capsys, before, files)
    landmarks = [f"--{side}-landmarks={inputs / 'points.csv'}" for side in ("fixed", "moving")]
    if name == "points.csv":
        refused(["evaluate", files / "registration", *landmarks, "--output", inputs / name], capsys, before, files)


@pytest.mark.parametrize("name", [*PHANTOM, "truth.json", "displacement_07.nii.gz"])
def test_a_phantom_replaces_a_phantom_and_nothing_else(tmp_path, name, capsys):
    own = tmp_path / "mine" / name
    own.parent.mkdir()
    own.write_bytes(b"the only copy")
    command = ["phantom", "longitudinal", "--spacing-mm", "12", "--output"]
    refused([*command, own.parent], capsys, contents(tmp_path), tmp_path)


def test_a_phantom_is_made_anew_and_leaves_nothing_of_the_one_before(tmp_path):
    command = ["phantom", "longitudinal", "--spacing-mm", "12", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    first = contents(tmp_path)
    (tmp_path / "out" / "pet.nii.gz").write_bytes(b"of another task")
    (tmp_path / "out" / "notes.txt").write_text("kept")
    assert main([*command, "--seed", "3", "--overwrite"]) == 0
    second = contents(tmp_path)
    assert {path.name for path in set(second) - set(first)} == {"notes.txt"}
    assert second[tmp_path / "out" / "fixed.nii.gz"] != first[tmp_path / "out" / "fixed.nii.gz"]


def test_the_second_file_of_an_input_is_kept_too(files, capsys):
    inputs = files / "inputs"
    sitk.WriteImage(volume(), str(inputs / "ct.img"))
    before = contents(files)
    command = ["apply", files / "registration", "--image", inputs / "ct.img", "--reference", inputs / "fixed.nii.gz"]
    refused([*command, "--output", inputs / "ct.hdr"], capsys, before, files)


def test_a_folder_that_is_read_gets_no_file(files, capsys):
    """A folder of slices, to which a file would be added that the next reading takes for a slice."""
    before = contents(files)
    command = ["apply", files / "registration", "--image", files / "inputs"]
    command += ["--reference", files / "inputs" / "fixed.nii.gz", "--output", files / "inputs" / "new.nii.gz"]
    refused(command, capsys, before, files)


def test_an_input_beside_the_results_is_kept(files):
    """Under a name that no result has: nothing is overwritten."""
    folder = files / "inputs"
    before = contents(folder)
    assert apply(files, "--image", folder / "carried.nii.gz") == 0
    assert apply(files, "--image", folder / "carried.nii.gz") == 0
    after = contents(folder)
    del after[folder / "carried.nii.gz"]
    assert after == before


# ---- a full disk ----


def write_volume(image, path):
    with staged_folder(path.parent) as staging:
        write_volume_directly(image, staging / path.name)


@POSIX
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr", ".hdr"])
def test_a_volume_is_written_whole_or_not_at_all_on_a_full_disk(tmp_path, ending, capfd):
    """The disk is full after any number of bytes."""
    image, target = volume(), tmp_path / f"volume{ending}"
    write_volume(image, target)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    old = contents(tmp_path)
    chance = np.random.default_rng(3)
    for limit in (0, 1, 300, 352, size - 1, *chance.integers(size, size=6)):
        with largest_file(int(limit)), pytest.raises(OutputError):
            write_volume(volume(2), target)
        assert contents(tmp_path) == old
    write_volume(volume(2), target)
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    np.testing.assert_array_equal(back, sitk.GetArrayFromImage(volume(2)))


@POSIX
def test_a_transform_is_written_whole_or_not_at_all_on_a_full_disk(tmp_path, capfd):
    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(8, 9, 10, 3)), isVector=True)
    transform = sitk.CompositeTransform([sitk.DisplacementFieldTransform(field), sitk.Euler3DTransform()])
    write_transform(transform, tmp_path / "whole.h5")
    size = (tmp_path / "whole.h5").stat().st_size
    for limit in (0, 1, size // 2, size - 1, *np.random.default_rng(4).integers(size, size=6)):
        with largest_file(int(limit)), pytest.raises(OutputError), staged_folder(tmp_path / "out") as staging:
            write_transform(transform, staging / "transform.h5")
        assert not (tmp_path / "out").exists()


@POSIX
@pytest.mark.parametrize("kind", ["--image", "--labels", "--points"])
def test_apply_on_a_full_disk(files, kind, capsys):
    if kind == "--labels":
        sitk.WriteImage(sitk.Cast(volume() > 0.0, sitk.sitkInt16), str(files / "inputs" / "moving.nii.gz"))
    output = files / "out" / ("carried.csv" if kind == "--points" else "carried.nii.gz")
    for limit in (0, 10, 40):
        with largest_file(limit):
            code = apply(files, kind, output)
        assert code == 2
        assert not output.parent.exists()
    assert capsys.readouterr().err.count("\n") == 3
    assert apply(files, kind, output) == 0


@pytest.mark.parametrize("ending", [".vtk", ".tif", ".gipl", ".png"])
def test_a_format_that_loses_the_orientation_is_refused(tmp_path, ending):
    with pytest.raises(OutputError, match=r"choose \.nii\.gz or \.nrrd"):
        write_volume(volume(kind=np.uint8), tmp_path / f"volume{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
@pytest.mark.parametrize("name", [b"\xff.nii.gz", b"\xffolder/carried.nii.gz"])
def test_an_output_whose_name_is_no_text_is_refused(files, name, capsys):
    """ITK ends the process when it is given such a name."""
    before = contents(files)
    assert apply(files, "--image", files / os.fsdecode(name)) == 2
    assert "UTF-8; rename it" in capsys.readouterr().err
    with pytest.raises(OutputError, match="UTF-8; rename it"), staged_folder(files / os.fsdecode(b"\xff")):
        pytest.fail("the block must not run")
    assert contents(files) == before


# ---- results of a killed run ----


@POSIX
@pytest.mark.parametrize("command", ["apply", "evaluate", "register"])
def test_reading_results_after_a_kill_finds_one_run(files, command):
    """A run with another shift is killed in the middle of its moves; what is read then belongs together."""
    registration, inputs = files / "registration", files / "inputs"
    other = sitk.TranslationTransform(3, (-5.0, 3.0, 0.0))
    before = contents(registration)

    def write(step):
        kill_at(step, below=registration)
        with staged_folder(registration) as staging:
            write_transform(sitk.CompositeTransform([other]), staging / "transform.h5")
            write_transform(sitk.CompositeTransform([other.GetInverse()]), staging / "inverse.h5")

    tried = 0
    for step in itertools.count(8):
        if ended(fork(lambda step=step: write(step))) == 0:
            break
        if not (registration / ".foundation-registration-unfinished").is_dir():
            continue
        tried += 1
        if command == "apply":
            assert apply(files, "--points", files / "carried.csv") == 0
        elif command == "evaluate":
            landmarks = [f"--{side}-landmarks={inputs / 'points.csv'}" for side in ("fixed", "moving")]
            assert main(["evaluate", str(registration), *landmarks]) == 0
        else:
            start = ["register", str(inputs / "missing.nii.gz"), str(inputs / "moving.nii.gz")]
            start += ["--initial-transform", str(registration / "transform.h5")]
            assert main([*start, "--output", str(files / "out"), *FAST]) == 2
        forward, inverse = (sitk.ReadTransform(str(registration / name)) for name in ("transform.h5", "inverse.h5"))
        back = inverse.TransformPoint(forward.TransformPoint((1.0, 2.0, 3.0)))
        np.testing.assert_allclose(back, (1.0, 2.0, 3.0), atol=1e-9)
        assert {path.name for path in registration.iterdir()} == {"transform.h5", "inverse.h5"}
        for path, content in before.items():
            path.write_bytes(content)
    assert tried > 5


def test_results_of_an_earlier_run_do_not_stay_beside_new_ones(files):
    """Maps that the new run was not asked for would belong to another registration."""
    inputs, result = files / "inputs", files / "result"
    result.mkdir()
    for name in ("jacobian.nii.gz", "expected_error_mm.nrrd", "features_fixed.nii.gz", "notes.txt"):
        (result / name).write_text("of an earlier run")
    command = ["register", str(inputs / "fixed.nii.gz"), str(inputs / "moving.nii.gz"), "--output", str(result)]
    assert main([*command, *FAST, "--overwrite"]) == 0
    assert {path.name for path in result.iterdir()} == {
        "transform.h5",
        "initial_transform.h5",
        "inverse.h5",
        "warped.nii.gz",
        "report.json",
        "overview.png",
        "notes.txt",
    }
