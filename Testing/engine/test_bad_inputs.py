"""Whatever file or value is given to whatever argument: a result, or one line that says why not and exit code 2."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import empty_grid, rigid_transform, volume

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.landmark_files import write_points
from FoundationRegistrationLib.io.landmarks import Landmarks
from FoundationRegistrationLib.io.transforms import write_transform

FASTEST = ("--encoder", "mind", "--working-spacing-mm", "12", "--iterations", "0", "--initialization", "none")
FASTEST += ("--fluid-iterations", "0", "--progress", "none")
LONG = "n" * 300
SHEARED = (
    "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\nencoding: raw\n"
    "space directions: (1,0.5,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
)


def small(grid):
    return sitk.Shrink(volume(empty_grid(grid)), [2, 2, 2])


def images():
    """Images that are not what an argument expects, by file name."""
    rng = np.random.default_rng(1)
    fixed = small("oblique")
    values = sitk.GetArrayFromImage(fixed)
    grey = sitk.Cast(fixed, sitk.sitkInt16)
    three = sitk.Compose([fixed / 100.0] * 3)
    complex_image = sitk.GetImageFromArray(values + 1j)
    complex_image.CopyInformation(fixed)
    unknown = sitk.GetImageFromArray(np.full_like(values, np.nan))
    unknown.CopyInformation(fixed)
    fractions = sitk.GetImageFromArray(rng.random(values.shape).astype(np.float32))
    fractions.CopyInformation(fixed)
    return {
        "2D.nrrd": fixed[:, :, 5],
        "2D.png": sitk.Cast(fixed[:, :, 5] / 10.0, sitk.sitkUInt8),
        "4D.nii.gz": sitk.JoinSeries([grey, grey]),
        "vector.nrrd": three,
        "colour.nii.gz": sitk.Compose([sitk.Cast(fixed / 10.0, sitk.sitkUInt8)] * 3),
        "two components.mha": sitk.Compose([fixed] * 2),
        "vector 2D.nrrd": sitk.Compose([fixed[:, :, 5]] * 2),
        "complex.nrrd": complex_image,
        "unknown.nrrd": unknown,
        "constant.nrrd": grey * 0 + 7,
        "empty.nrrd": grey * 0,
        "fractions.nrrd": fractions,
        "grey.nrrd": grey,
        "one voxel.nrrd": grey[5:6, 5:6, 5:6],
        "one slice.nrrd": grey[:, :, 5:6],
        "negative labels.nrrd": grey * 0 - 3,
        "far away.nrrd": moved(grey),
        "wide.nrrd": sitk.Cast(grey, sitk.sitkInt64),
    }


def moved(image):
    far = sitk.Image(image)
    far.SetOrigin((5000.0, 0.0, 0.0))
    return far


def segmentations():
    """Fields of segmentations that contradict themselves, by file name."""
    head = "Segment0_ID:=a\nSegment0_Name:=a\n"
    return {
        "layer.seg.nrrd": head + "Segment0_Layer:=3\nSegment0_LabelValue:=1\n",
        "words.seg.nrrd": head + "Segment0_Layer:=first\nSegment0_LabelValue:=one\n",
        "bare.seg.nrrd": head,
        "nameless.seg.nrrd": "Segment0_ID:=a\nSegment1_ID:=b\nSegment1_LabelValue:=2\n",
    }


TEXTS = {
    "text.nii.gz": "this is no image",
    "text.nrrd": "NRRD0004\n",
    "text.h5": "this is no transform",
    "text.tfm": "#Insight Transform File V1.0\nTransform: Nonsense_double_3_3\nParameters: 1\n",
    "none.mha": "",
    "none.h5": "",
    "none.csv": "",
    "none.json": "",
    "sheared.nrrd": SHEARED + "a" * 64,
    "fsl.mat": "1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n",
    "minc.xfm": "MNI Transform File\nTransform_Type = Linear;\nLinear_Transform =\n 1 0 0 9\n 0 1 0 0\n 0 0 1 0;\n",
    "words.csv": "x,y,z\none,two,three\n",
    "two.csv": "x,y\n1,2\n",
    "line.mrk.json": '{"markups": [{"type": "Line", "controlPoints": []}]}',
    "list.mrk.json": "[1, 2]",
    "deep.mrk.json": "[" * 100000,
    "list.json": "[1, 2]",
    "settings.json": '{"settings": [1]}',
    "report.json": '{"settings": {"encoder": "mind"}, "initialization": "given transform", "start": 3}',
}
NAMES = (*images(), *segmentations(), *TEXTS, "folder", "missing.nii.gz", f"{LONG}.nii.gz", f"{LONG}.csv", LONG)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sound pair, the folder of a registration, and all that is not what it should be."""
    folder = tmp_path_factory.mktemp("files")
    for name, image in images().items():
        sitk.WriteImage(image, str(folder / name))
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    for name, fields in segmentations().items():
        (folder / name).write_bytes(
            (SHEARED.replace("0.5", "0").rstrip() + "\n" + fields + "\n").encode() + b"\1" * 64
        )
    (folder / "folder").mkdir()
    result = folder / "result"
    result.mkdir()
    write_transform(rigid_transform(), result / "transform.h5")
    write_transform(rigid_transform().GetInverse(), result / "inverse.h5")
    for side, grid in (("fixed", "oblique"), ("moving", "sagittal")):
        image = small(grid)
        sitk.WriteImage(image, str(folder / f"{side}.nii.gz"))
        sitk.WriteImage(sitk.Cast(image > 300.0, sitk.sitkUInt8), str(folder / f"{side}_labels.nrrd"))
        write_points(folder / f"{side}.csv", Landmarks(("",) * 4, rigid_points()))
    return folder


def rigid_points():
    return np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 20.0]])


REGISTER = {
    "fixed": ("fixed", "moving.nii.gz"),
    "mask": ("fixed.nii.gz", "moving.nii.gz", "--fixed-mask"),
    "lesion": ("fixed.nii.gz", "moving.nii.gz", "--moving-lesion"),
    "labels": ("fixed.nii.gz", "moving.nii.gz", "--moving-labels", "fixed_labels.nrrd", "--fixed-labels"),
    "landmarks": ("fixed.nii.gz", "moving.nii.gz", "--moving-landmarks", "moving.csv", "--fixed-landmarks"),
    "initial transform": ("fixed.nii.gz", "moving.nii.gz", "--initial-transform"),
    "settings": ("fixed.nii.gz", "moving.nii.gz", "--settings"),
}
OTHERS = {
    "apply registration": ("apply", "?", "--points", "moving.csv", "--output", "*.csv"),
    "apply image": ("apply", "result", "--reference", "fixed.nii.gz", "--output", "*.nrrd", "--image", "?"),
    "apply labels": ("apply", "result", "--reference", "fixed.nii.gz", "--output", "*.seg.nrrd", "--labels", "?"),
    "apply points": ("apply", "result", "--output", "*.csv", "--points", "?"),
    "apply reference": ("apply", "result", "--image", "moving.nii.gz", "--output", "*.nrrd", "--reference", "?"),
    "apply labels to": ("apply", "result", "--labels", "moving_labels.nrrd", "--output", "*.nii", "--reference", "?"),
    "evaluate registration": ("evaluate", "?", "--fixed-landmarks", "fixed.csv", "--moving-landmarks", "moving.csv"),
    "evaluate labels": ("evaluate", "result", "--fixed-labels", "fixed_labels.nrrd", "--moving-labels", "?"),
    "evaluate landmarks": ("evaluate", "result", "--fixed-landmarks", "fixed.csv", "--moving-landmarks", "?"),
}


def outcome(arguments, output, capsys):
    """Run a command; check that it did its work or said in a line why not, and left nothing then."""
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr()
    assert code in (0, 2)
    if code == 2:
        [line] = said.err.splitlines()
        assert line.startswith("foundation-registration: ")
        assert line.endswith((".", "]"))
        assert "itk::" not in line
        assert not output.exists()
    return code


def command_of(template, files, given, output):
    """Fill a template: "?" is what is tried, "*" the name of the output, a file's name stands for its path."""
    filled = []
    for word in template:
        if word == "?":
            filled.append(str(files / given))
        elif word.startswith("*"):
            filled.append(f"{output}{word[1:]}")
        else:
            filled.append(str(files / word) if (files / word).exists() else word)
    return filled


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name if len(name) < 40 else f"long{name[300:]}")
@pytest.mark.parametrize("argument", OTHERS)
def test_apply_and_evaluate_do_their_work_or_say_why_not(files, tmp_path, capsys, argument, name):
    output = tmp_path / "output"
    command = command_of(OTHERS[argument], files, name, output)
    written = [word for word in command if word.startswith(str(output))]
    outcome(command, Path(written[0]) if written else output, capsys)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name if len(name) < 40 else f"long{name[300:]}")
@pytest.mark.parametrize("argument", REGISTER)
def test_register_does_its_work_or_says_why_not(files, tmp_path, capsys, argument, name):
    template = REGISTER[argument]
    words = [*template, "?"] if "fixed" not in template else ["?" if word == "fixed" else word for word in template]
    output = tmp_path / "result"
    outcome(["register", *command_of(words, files, name, output), "--output", str(output), *FASTEST], output, capsys)


@pytest.mark.parametrize(
    "name", ["out", "out.foo", "out.png", "out.tif", "out.vtk", "out.h5", "out.nii.zip", LONG, "."]
)
@pytest.mark.parametrize("kind", ["image", "labels", "points"])
def test_a_name_that_cannot_hold_the_result_is_refused(files, tmp_path, capsys, kind, name):
    given = {"image": "moving.nii.gz", "labels": "moving_labels.nrrd", "points": "moving.csv"}[kind]
    command = ["apply", str(files / "result"), f"--{kind}", str(files / given), "--output", str(tmp_path / name)]
    assert outcome([*command, "--reference", str(files / "fixed.nii.gz")], tmp_path / "nothing", capsys) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spacing", ["500", "20.1", "0", "-1", "nan", "inf", "1e-9", "1e400", "0.01"])
def test_a_phantom_that_cannot_be_drawn_is_refused(tmp_path, capsys, spacing):
    command = ["phantom", "lesion", "--output", str(tmp_path / "phantom"), f"--spacing-mm={spacing}"]
    assert outcome(command, tmp_path / "phantom", capsys) == 2


def test_a_phantom_of_another_kind_is_refused(tmp_path, capsys):
    output = tmp_path / "phantom"
    assert outcome(["phantom", "lesion", "--seed=-1", "--output", str(output)], output, capsys) == 2
    assert outcome(["phantom", "knee", "--output", str(output)], output, capsys) == 2
