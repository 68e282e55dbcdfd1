"""Kinetic maps and curves of series whose answers are known, on oblique grids, with noise and NaN."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.cli.files import KINETICS
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.phantom import DYNAMIC_LABELS, make_dynamic_phantom
from FoundationRegistrationLib.series.curves import label_curves, write_curves
from FoundationRegistrationLib.series.kinetics import (
    before_contrast,
    kinetic_maps,
    maximum_intensity_projection,
    subtraction,
)
from FoundationRegistrationLib.series.nrrd import write_frames
from FoundationRegistrationLib.series.phases import Phases, choose_phases
from FoundationRegistrationLib.series.reading import read_series

PAGE = Path(__file__).parents[2] / "Resources" / "Documentation" / "pages" / "dynamic-series.md"
TIMES_S = (0.0, 70.0, 140.0, 210.0, 280.0, 350.0)
PHASES = Phases((0,), 1, 5)
PERSISTENT, PLATEAU, WASHOUT = 1, 2, 3
CURVES = {
    PERSISTENT: (200.0, 260.0, 290.0, 320.0, 340.0, 360.0),
    PLATEAU: (200.0, 400.0, 404.0, 408.0, 410.0, 412.0),
    WASHOUT: (200.0, 500.0, 480.0, 450.0, 420.0, 400.0),
}
SIZE = (14, 12, 10)


def oblique(values: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    a, b = np.deg2rad([17.0, -12.0])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    flipped = about_z @ about_x @ np.diag([-1.0, 1.0, -1.0])
    image.SetSpacing((1.0, 1.3, 2.2))
    image.SetOrigin((31.0, -12.0, 55.0))
    image.SetDirection(flipped.ravel().tolist())
    return image


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def labels() -> np.ndarray:
    """Three structures in tissue that does not enhance, and air in front."""
    values = np.zeros(SIZE[::-1], np.uint8)
    for number, label in enumerate(CURVES):
        values[3:7, 5:9, 1 + 4 * number : 4 + 4 * number] = label
    return values


def series(dtype: type = np.float32, scale: float = 1.0) -> list[sitk.Image]:
    rng = np.random.default_rng(0)
    frames = []
    for frame in range(len(TIMES_S)):
        values = np.full(SIZE[::-1], 150.0)
        values[:, :4] = rng.uniform(0.0, 6.0, values[:, :4].shape)
        for label, curve in CURVES.items():
            values[labels() == label] = curve[frame]
        frames.append(oblique((scale * values).astype(dtype)))
    return frames


def changed(image: sitk.Image, index: tuple[int, int, int], value: float) -> sitk.Image:
    values = array(image)
    values[index] = value
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_maps_have_the_values_of_their_definitions_whatever_the_pixel_type(dtype):
    """Unsigned voxels would wrap around where the signal falls."""
    scale = 0.5 if dtype == np.uint8 else 1.0
    frames = series(dtype, scale)
    maps = kinetic_maps(frames, PHASES)
    for label, (before, early, *_, late) in CURVES.items():
        mask = labels() == label
        np.testing.assert_allclose(array(maps.wash_in)[mask], 100.0 * (early / before - 1.0), rtol=1e-4)
        np.testing.assert_allclose(array(maps.wash_out)[mask], 100.0 * (late / early - 1.0), rtol=1e-3, atol=0.3)
        np.testing.assert_allclose(array(maps.ser)[mask], (early - before) / (late - before), rtol=1e-4)
        lost = subtraction(frames[5], frames[1])
        np.testing.assert_allclose(array(lost)[mask], scale * (late - early), atol=0.6)
    for image in (maps.wash_in, maps.wash_out, maps.ser, lost):
        assert image.GetPixelID() == sitk.sitkFloat32
        assert image.IsSameImageGeometryAs(frames[0])


def test_types_of_curves_are_told_apart_by_ten_per_cent():
    change = array(kinetic_maps(series(), PHASES).wash_out)
    assert change[labels() == PERSISTENT].min() > 10.0
    assert np.abs(change[labels() == PLATEAU]).max() < 10.0
    assert change[labels() == WASHOUT].max() < -10.0


def test_air_is_not_known_and_tissue_that_does_not_enhance_has_no_ratio():
    maps = kinetic_maps(series(), PHASES)
    assert 6.0 <= maps.noise_floor < 150.0
    for image in (maps.wash_in, maps.wash_out, maps.ser):
        assert np.isnan(array(image)[:, :4]).all()
    tissue = labels() == 0
    tissue[:, :4] = False
    np.testing.assert_allclose(array(maps.wash_in)[tissue], 0.0)
    np.testing.assert_allclose(array(maps.wash_out)[tissue], 0.0)
    assert np.isnan(array(maps.ser)[tissue]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -40.0])
def test_no_map_is_made_of_a_signal_that_is_no_number_or_not_positive(value):
    frames = series()
    index = tuple(np.argwhere(labels() == WASHOUT)[0])
    frames[0] = changed(frames[0], index, value)
    maps = kinetic_maps(frames, PHASES)
    for image in (maps.wash_in, maps.wash_out, maps.ser):
        assert np.isnan(array(image)[index])
        assert np.isfinite(array(image)[labels() == PLATEAU]).all()
    difference = array(subtraction(frames[1], before_contrast(frames, PHASES)))[index]
    assert difference == 500.0 - value if np.isfinite(value) else np.isnan(difference)


def test_nan_in_one_frame_is_nan_in_the_maps_of_that_frame():
    frames = series()
    index = tuple(np.argwhere(labels() == PERSISTENT)[0])
    frames[5] = changed(frames[5], index, np.nan)
    maps = kinetic_maps(frames, PHASES)
    assert array(maps.wash_in)[index] == pytest.approx(30.0)
    assert np.isnan(array(maps.wash_out)[index]) and np.isnan(array(maps.ser)[index])


def test_several_frames_before_contrast_are_averaged():
    frames = series()
    frames[1:1] = [sitk.Cast(frames[0] * 1.2, sitk.sitkFloat32)]
    maps = kinetic_maps(frames, Phases((0, 1), 2, 6))
    mask = labels() == PLATEAU
    np.testing.assert_allclose(array(maps.wash_in)[mask], 100.0 * (400.0 / 220.0 - 1.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda image: image[1:], "frame 2 of the series does not lie on the grid"),
        (lambda image: sitk.Image(image[:, :, 2]), "2D"),
        (lambda image: sitk.Compose(image, image), "components"),
    ],
)
def test_frames_on_other_grids_are_refused(fault, words):
    frames = series()
    frames[2] = fault(frames[2])
    with pytest.raises(InputError, match=words):
        kinetic_maps(frames, PHASES)


def test_a_shifted_frame_is_refused():
    frames = series()
    frames[3].SetOrigin((31.0, -12.0, 56.0))
    with pytest.raises(InputError, match="frame 3 of the series does not lie on the grid"):
        kinetic_maps(frames, PHASES)


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize(
    ("frame", "words"), [(0, "pre-contrast volume"), (PHASES.early, "frame 1"), (PHASES.late, "frame 5")]
)
def test_empty_frames_to_compare_are_refused(value, frame, words):
    frames = series()
    frames[frame] = oblique(np.full(SIZE[::-1], value, np.float32))
    with pytest.raises(InputError, match=words):
        kinetic_maps(frames, PHASES)


def test_the_early_frame_is_the_last_of_the_first_two_minutes():
    messages = []
    assert choose_phases(6, TIMES_S, messages=messages) == Phases((0,), 1, 5)
    assert choose_phases(6, (0.0, 55.0, 110.0, 165.0, 220.0, 275.0), messages=messages).early == 2
    assert choose_phases(6, TIMES_S, 2, messages=messages) == Phases((0, 1), 2, 5)
    assert choose_phases(6, (0.0, 5.0, 10.0, 15.0, 20.0, 25.0), messages=messages) == Phases((0,), 1, 5)
    assert not messages


def test_frames_can_be_asked_for_by_their_seconds_after_contrast():
    assert choose_phases(6, TIMES_S, early_s=150.0, late_s=300.0) == Phases((0,), 2, 4)
    assert choose_phases(6, TIMES_S, 2, early_s=140.0) == Phases((0, 1), 3, 5)


def test_what_cannot_be_known_of_the_phases_is_said():
    for times, words in (
        (None, "not known"),
        ((0.0, 180.0, 360.0, 540.0, 720.0, 900.0), "may miss a peak"),
    ):
        messages = []
        assert choose_phases(6, times, messages=messages) == Phases((0,), 1, 5)
        assert len(messages) == 1 and words in messages[0]
    messages = []
    assert choose_phases(2, (0.0, 60.0), messages=messages) == Phases((0,), 1, None)
    assert "Only one frame is after contrast" in messages[0]
    maps = kinetic_maps(series()[:2], Phases((0,), 1, None))
    assert maps.wash_out is None and maps.ser is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"before": 0}, "0 cannot be before contrast"),
        ({"before": 6}, "6 cannot be before contrast"),
        ({"times_s": (0.0, 70.0, 60.0, 80.0, 90.0, 100.0)}, "increasing"),
        ({"times_s": (0.0, 70.0)}, "as many increasing"),
        ({"times_s": None, "early_s": 60.0}, "times of the frames are not known"),
        ({"early_s": -20.0}, "No frame lies -20 s after contrast"),
        ({"late_s": 800.0}, "No frame lies 800 s after contrast"),
        ({"early_s": 280.0, "late_s": 140.0}, "does not follow the early one"),
    ],
)
def test_phases_that_cannot_be_are_refused(arguments, words):
    given = {"times_s": TIMES_S, **arguments}
    with pytest.raises(InputError, match=words):
        choose_phases(6, given.pop("times_s"), **given)


@pytest.mark.parametrize(("plane", "direction"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_a_projection_lies_across_its_axis_and_keeps_the_place_of_what_is_bright(plane, direction):
    values = np.zeros(SIZE[::-1], np.float32)
    values[4, 6, 9] = 70.0
    values[:, 2, 3] = -5.0
    values[0] = np.nan
    image = oblique(values)
    flat = maximum_intensity_projection(image, plane)
    assert flat.GetSize()[direction] == 1
    assert np.nanmax(array(flat)) == 70.0
    k, j, i = np.argwhere(array(flat) == 70.0)[0]
    there = np.subtract(
        flat.TransformIndexToPhysicalPoint([int(i), int(j), int(k)]), image.TransformIndexToPhysicalPoint((9, 6, 4))
    )
    axes = np.reshape(flat.GetDirection(), (3, 3))
    across = np.delete(axes.T @ there, direction)
    np.testing.assert_allclose(across, 0.0, atol=1e-6)
    whole = [image.TransformContinuousIndexToPhysicalPoint([0.5 * (n - 1) for n in SIZE])]
    middle = flat.TransformContinuousIndexToPhysicalPoint([0.5 * (n - 1) for n in flat.GetSize()])
    np.testing.assert_allclose(middle, whole[0], atol=1e-6)
    assert np.isnan(array(flat)).any() == (plane != "axial")


def test_projections_of_a_volume_tilted_by_half_a_right_angle_are_three_different_ones():
    image = oblique(np.arange(np.prod(SIZE), dtype=np.float32).reshape(SIZE[::-1]))
    c = float(np.sqrt(0.5))
    image.SetDirection((1.0, 0.0, 0.0, 0.0, c, -c, 0.0, c, c))
    flat = {maximum_intensity_projection(image, plane).GetSize() for plane in ("axial", "coronal", "sagittal")}
    assert len(flat) == 3


def test_curves_have_the_mean_the_spread_and_the_enhancement_of_each_label(tmp_path):
    frames = series()
    marked = oblique(labels())
    inner = tuple(np.argwhere(labels() == PLATEAU)[0])
    for frame in range(6):
        frames[frame] = changed(frames[frame], inner, array(frames[frame])[inner] + 90.0)
    gone = tuple(np.argwhere(labels() == WASHOUT)[0])
    frames[2] = changed(frames[2], gone, np.nan)
    persistent, plateau, washout = label_curves(frames, marked, PHASES, {PLATEAU: "mass, left"})
    assert [curve.label for curve in (persistent, plateau, washout)] == list(CURVES)
    np.testing.assert_allclose(persistent.mean, CURVES[PERSISTENT])
    np.testing.assert_allclose(persistent.sd, 0.0)
    np.testing.assert_allclose(persistent.enhancement_percent, [0.0, 30.0, 45.0, 60.0, 70.0, 80.0])
    n = plateau.voxels
    np.testing.assert_allclose(plateau.mean, np.array(CURVES[PLATEAU]) + 90.0 / n)
    np.testing.assert_allclose(plateau.sd, 90.0 * np.sqrt((n - 1) / n**2))
    assert washout.voxels == (labels() == WASHOUT).sum() - 1
    np.testing.assert_allclose(washout.mean, CURVES[WASHOUT])
    path = tmp_path / "curves.csv"
    write_curves(path, [persistent, plateau], TIMES_S)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 12
    assert rows[7]["name"] == "mass, left" and rows[7]["frame"] == "1" and rows[7]["time_s"] == "70"
    assert float(rows[2]["enhancement_percent"]) == 45.0


def test_curves_without_a_signal_or_times_have_empty_cells(tmp_path):
    frames = [oblique(np.zeros(SIZE[::-1], np.float32)) for _ in range(2)]
    frames[1] = changed(frames[1], (0, 0, 0), np.nan)
    values = np.zeros(SIZE[::-1], np.int16)
    values[0, 0, 0], values[5, 5, 5] = 7, -3
    write_curves(tmp_path / "curves.csv", label_curves(frames, oblique(values), Phases((0,), 1, None)), None)
    negative, *_, unknown = csv.DictReader((tmp_path / "curves.csv").read_text().splitlines())
    assert (negative["label"], negative["voxels"], negative["mean"], negative["time_s"]) == ("-3", "1", "0", "")
    assert negative["enhancement_percent"] == ""
    assert (unknown["label"], unknown["voxels"], unknown["mean"], unknown["sd"]) == ("7", "0", "", "")


def test_labels_on_another_grid_are_refused():
    marked = oblique(labels())
    marked.SetSpacing((1.0, 1.3, 2.0))
    with pytest.raises(InputError, match="label map does not lie on the grid"):
        label_curves(series(), marked, PHASES)


def test_curves_of_the_phantom_are_its_true_ones():
    phantom = make_dynamic_phantom(200, spacing_mm=4.5, motion="none", difficulty="easy")
    phases = choose_phases(6, phantom.times_s)
    names = {value: name for name, value in DYNAMIC_LABELS.items()}
    curves = {c.name: c for c in label_curves(phantom.motion_free, phantom.labels[0], phases, names)}
    change = {}
    for name, truth in phantom.enhancement.items():
        if name.endswith("lesion"):
            found = curves[name].enhancement_percent
            assert np.corrcoef(found, truth)[0, 1] > 0.99
            assert 30.0 < found[phases.early] < 100.0 * truth[phases.early] + 5.0  # partial volume
            change[name] = curves[name].mean[-1] / curves[name].mean[phases.early] - 1.0
    assert change["persistent lesion"] > 0.1 > abs(change["plateau lesion"])
    assert change["washout lesion"] < -0.1
    ser = array(kinetic_maps(phantom.motion_free, phases).ser)
    at = {name: np.nanmedian(ser[array(phantom.labels[0]) == DYNAMIC_LABELS[name]]) for name in change}
    assert at["persistent lesion"] < 0.85 < at["plateau lesion"] < 1.15 < at["washout lesion"]


@pytest.fixture
def files(tmp_path):
    sitk.WriteImage(sitk.JoinSeries(series(np.int16), 0.0, 70.0), str(tmp_path / "series.nii.gz"))
    sitk.WriteImage(oblique(labels()), str(tmp_path / "labels.nii.gz"))
    return tmp_path


def test_the_command_writes_the_maps_the_curves_and_their_record(files, capsys):
    out = files / "out"
    out.mkdir()
    (out / "notes.txt").write_text("kept")
    command = ["kinetics", str(files / "series.nii.gz"), "--output", str(out)]
    assert main([*command, "--mask", str(files / "labels.nii.gz")]) == 0
    assert {path.name for path in out.iterdir()} == {*KINETICS, "notes.txt"}
    washout = sitk.ReadImage(str(out / "wash_out.nrrd"))
    np.testing.assert_allclose(array(washout)[labels() == WASHOUT], -20.0)
    assert np.isnan(array(washout)[:, :4]).all()  # ITK, and so Slicer, reads NaN in NIfTI as 0: a plateau
    later = read_series(out / "subtractions.seq.nrrd")
    assert later.times_s == TIMES_S[1:]
    falling = [array(frame)[labels() == WASHOUT][0] for frame in later.frames]
    np.testing.assert_allclose(falling, [300.0, 280.0, 250.0, 220.0, 200.0])
    np.testing.assert_allclose(later.frames[0].GetDirection(), washout.GetDirection(), atol=1e-6)
    record = json.loads((out / "kinetics.json").read_text())
    assert (record["frames_before_contrast"], record["early_frame"], record["late_frame"]) == ([0], 1, 5)
    assert record["times_s"] == list(TIMES_S)
    assert set(record["inputs"]) == {"series", "mask"} and len(record["inputs"]["series"]["sha256"]) == 64
    rows = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    assert [row["enhancement_percent"] for row in rows if row["label"] == "3"] == [
        "0",
        "150",
        "140",
        "125",
        "110",
        "100",
    ]
    assert main([*command, "--early", "150", "--pre", "2", "--overwrite"]) == 0
    assert not (out / "curves.csv").exists()
    assert json.loads((out / "kinetics.json").read_text())["early_frame"] == 3
    assert not capsys.readouterr().err


def test_what_the_page_shows_runs(files, monkeypatch):
    section = PAGE.read_text(encoding="utf-8").split("## Kinetic maps\n")[1].split("\n## ")[0]
    monkeypatch.chdir(files)
    (files / "result").mkdir()
    (files / "series.nii.gz").rename("result/series.nii.gz")
    sitk.WriteImage(oblique(labels()), "lesions.seg.nrrd")
    for command in re.findall("^    foundation-registration (.*)$", section, re.MULTILINE):
        assert main(shlex.split(command)) == 0
    rows = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert {path.name for path in (files / "maps").iterdir()} == set(re.findall("`([^`]+)`", rows))
    names = {"frames": series(), "times_s": TIMES_S, "labels": oblique(labels())}
    for example in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(compile(example, PAGE.name, "exec"), names)
    assert names["curves"][0].enhancement_percent[1] == pytest.approx(30.0)
    assert names["maps"].ser.GetSize() == SIZE


def test_a_series_without_times_is_read_by_the_number_of_its_frames(tmp_path, capsys):
    sitk.WriteImage(sitk.JoinSeries(series(), 0.0, 70.0), str(tmp_path / "series.nrrd"))
    command = ["kinetics", str(tmp_path / "series.nrrd"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "times of the frames are not known" in said
    record = json.loads((tmp_path / "out" / "kinetics.json").read_text())
    assert record["times_s"] is None
    assert len(record["warnings"]) >= 2
    assert main([*command, "--early", "70"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["labels.nii.gz"], "a single volume"),
        (["nothing.nii.gz"], "nothing.nii.gz"),
        (["series.nii.gz", "--pre", "6"], "6 cannot be before contrast"),
        (["series.nii.gz", "--early", "2000"], "No frame lies 2000 s"),
        (["series.nii.gz", "--mask", "other.nii.gz"], "does not lie on the grid"),
        (["series.nii.gz", "--mask", "empty.nii.gz"], "is empty"),
    ],
)
def test_what_cannot_be_right_is_refused_and_nothing_is_written(files, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(files)
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8) + 1, "other.nii.gz")
    sitk.WriteImage(oblique(labels() * 0), "empty.nii.gz")
    assert main(["kinetics", *arguments, "--output", "out"]) == 2
    assert words in capsys.readouterr().err
    assert not (files / "out").exists()


def test_the_series_is_not_overwritten(files, capsys):
    write_frames(series(), TIMES_S, files / "subtractions.seq.nrrd")
    assert main(["kinetics", str(files / "subtractions.seq.nrrd"), "--output", str(files)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
