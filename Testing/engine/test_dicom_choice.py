"""A study with several series: what it holds is listed, and one series of it is chosen, in the commands too."""

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import AXIAL, PET, SAGITTAL, largest_error, oblique, positions, scene, write_object, write_series
from dicom_series import write_slice as write_one
from volumes import anatomy, smooth_warp

from FoundationRegistrationLib import InputError, read_volume
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.units import units_of

AXES = oblique(np.random.default_rng(11))
FAST = ("--encoder", "mind", "--working-spacing-mm", "5", "--iterations", "5", "--progress", "none")
BODY = {"size": (16, 15), "spacing": (5.0, 5.0)}


def body_places(axes):
    """Slices through the whole body of `anatomy`, whatever their plane."""
    middle = -0.5 * (15 * 5.0 * axes[0] + 14 * 5.0 * axes[1] + 16 * 5.0 * np.cross(*axes))
    return positions(17, 5.0, axes, middle)


def shown(number):
    return lambda points: scene(points) + 10 * number


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder as a hospital sends it: two contrasts, two time points, a localiser, a capture, a report."""
    folder = tmp_path_factory.mktemp("study")

    def series(number, description, places=None, **options):
        tags = {"SeriesInstanceUID": f"1.2.840.55.{number}", "SeriesNumber": number, "SeriesDescription": description}
        write_series(folder / f"S{number:02d}", places, show=shown(number), **{**tags, **options})

    series(2, "T1 fs pre", positions(axes=AXES), axes=AXES)
    series(12, "T1 fs post")
    for time in (1, 2):
        dynamic = {"TemporalPositionIdentifier": time, "AcquisitionTime": f"1000{time}0"}
        series(5, "DCE", name=f"{time}{{}}", **dynamic)
    series(1, "scout", [(0, -9, 9)], axes=SAGITTAL)
    series(30, "gaps", positions()[[0, 1, 3]])
    series(99, "capture", [(0, 0, 0)], PhotometricInterpretation="RGB", SamplesPerPixel=3, Modality="OT")
    write_object(folder / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.2.840.55.77")
    return folder


def test_a_number_below_zero_chooses_a_series_too(tmp_path):
    for number in (-4, 4):
        tags = {"SeriesInstanceUID": f"1.2.840.55.{number + 10}", "SeriesNumber": number}
        write_series(tmp_path / str(number), show=shown(number), **tags)
    for number in (-4, 4):
        assert largest_error(read_volume(tmp_path, "fixed", [], str(number)), shown(number)) < 0.51


@pytest.mark.parametrize(
    ("series", "number"),
    [("2", 2), ("02", 2), ("1.2.840.55.12", 12), ("1.2.840.55.12", 12), ("t1 FS post", 12), ("pre", 2)],
)
def test_a_series_is_chosen_by_number_uid_or_description(study, series, number):
    assert largest_error(read_volume(study, "fixed", [], series), shown(number)) < 0.51


def test_the_beginning_of_a_uid_suffices_if_no_other_has_it(study):
    assert largest_error(read_volume(study, "fixed", [], "1.2.840.55.2"), shown(2)) < 0.51


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (
            None,
            "holds 6 series; choose one by its number, description or UID, or give one of its files: 1 MR 'scout'",
        ),
        ("t1", "holds 2 series that 't1' fits; choose one"),
        ("1.2.840.55.1", "holds 1 series"),
        ("1.2.840", "holds 6 series that '1.2.840' fits"),
        ("4", "holds no series '4', but 6: 1 MR 'scout'"),
        ("", "holds no series ''"),
        ("DCE", "differ in TemporalPositionIdentifier"),
        ("scout", "is a single slice"),
        ("capture", "is in colour"),
    ],
)
def test_what_fits_no_series_or_several_is_refused_with_what_there_is(study, series, words):
    if series == "1.2.840.55.1":  # the whole UID of one series, and the beginning of another
        words = "is a single slice"
    with pytest.raises(InputError, match=re.escape(words)):
        read_volume(study, "fixed", [], series)


def test_a_series_is_chosen_in_a_folder_only(study, tmp_path):
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(tmp_path / "a.nii"))
    for path in (tmp_path / "a.nii", study / "S02" / "s000.dcm"):
        with pytest.raises(InputError, match=r"is a file, in which no series '2' can be chosen; give its folder"):
            read_volume(path, "fixed", [], "2")


def test_the_list_tells_what_can_be_read(study, capsys):
    assert main(["dicom", "list", str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    series = {line.split()[0]: line for line in lines if not line.startswith("      ")}
    assert list(series) == ["1", "2", "5", "12", "30", "99"]
    assert "MR          9 x 7 x 6  3 x 4 x 5 mm, 1 volume  'T1 fs pre'  UID 1.2.840.55.2" in series["2"]
    assert "2 volumes by TemporalPositionIdentifier  'DCE'" in series["5"]
    problems = [line for line in lines if line.startswith("      not readable: it ")]
    assert len(problems) == 3 and "is a single slice" in problems[0] and "has gaps: 1 slice" in problems[1]


def test_the_list_for_programs(study, capsys):
    assert main(["dicom", "list", str(study), "--json"]) == 0
    rows = {row["number"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["2"]["size"] == [9, 7, 6] and rows["2"]["spacing_mm"] == [3, 4, 5] and rows["2"]["volumes"] == 1
    assert rows["5"]["volumes"] == 2 and rows["5"]["differ_in"] == "TemporalPositionIdentifier"
    assert rows["99"]["volumes"] == 0 and "in colour" in rows["99"]["problem"]
    for row in rows.values():
        assert row["uid"].startswith(row["uid_beginning"]) and "." in row["uid_beginning"]


def test_every_beginning_in_the_list_chooses_its_series(study, capsys):
    main(["dicom", "list", str(study), "--json"])
    for row in json.loads(capsys.readouterr().out):
        if row["volumes"] == 1:
            image = read_volume(study, "fixed", [], row["uid_beginning"])
            assert largest_error(image, shown(int(row["number"]))) < 0.51


def test_a_damaged_file_is_named_beside_the_list(tmp_path, capsys):
    write_series(tmp_path)
    whole = (tmp_path / "s003.dcm").read_bytes()
    (tmp_path / "s003.dcm").write_bytes(whole[:300])
    assert main(["dicom", "list", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "'s003.dcm', which is damaged or incomplete" in captured.err and "has gaps" in captured.out


@pytest.mark.parametrize(
    ("name", "words"),
    [("empty", "holds no DICOM images"), ("a.dcm", "is a file; give the folder"), ("none", "does not exist")],
)
def test_what_holds_nothing_to_list_is_refused(tmp_path, capsys, name, words):
    (tmp_path / "empty").mkdir()
    write_one(tmp_path / "a.dcm", (0, 0, 0))
    assert main(["dicom", "list", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """A study with an MR and a PET of one body, the PET warped and in another plane."""
    folder = tmp_path_factory.mktemp("bodies")
    mr = {"SeriesInstanceUID": "1.2.840.66.3", "SeriesNumber": 3, "SeriesDescription": "MR ax"}
    write_series(folder / "a", body_places(AXIAL), show=anatomy, **BODY, **mr)
    pet = {**PET, "SeriesInstanceUID": "1.2.840.66.4", "SeriesNumber": 4, "SeriesDescription": "PET AC"}

    def moved(points):
        return 100 + 20 * anatomy(smooth_warp(points))

    write_series(folder / "b", body_places(AXES), show=moved, axes=AXES, signed=False, **BODY, **pet)
    return folder


@pytest.fixture(scope="module")
def registration(bodies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registered") / "result"
    command = ["register", str(bodies), str(bodies), "--fixed-series", "MR ax", "--moving-series", "4"]
    assert main([*command, "--output", str(folder), *FAST]) == 0
    return folder


def test_two_series_of_one_study_are_registered(bodies, registration):
    report = json.loads((registration / "report.json").read_text())
    assert report["inputs"]["fixed"]["series"] == "MR ax" and report["inputs"]["moving"]["series"] == "4"
    assert report["inputs"]["moving"]["units"] == "SUVbw g/ml" and "units" not in report["inputs"]["fixed"]
    assert any("was converted to SUV by body weight" in message for message in report["messages"])
    warped = read_volume(registration / "warped.nii.gz", "warped", [])
    assert units_of(warped) == "SUVbw g/ml"
    moving = read_volume(bodies, "moving", [], "PET")
    assert sitk.GetArrayFromImage(warped).max() == pytest.approx(sitk.GetArrayFromImage(moving).max(), rel=0.2)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_series_is_carried_onto_the_grid_of_another(bodies, registration, tmp_path, capsys, ending):
    output = tmp_path / f"pet{ending}"
    command = ["apply", str(registration), "--image", str(bodies), "--image-series", "pet ac"]
    command += ["--reference", str(bodies), "--reference-series", "3", "--output", str(output)]
    assert main(command) == 0
    assert "was converted to SUV by body weight" in capsys.readouterr().err
    carried, warped = (read_volume(path, "given", []) for path in (output, registration / "warped.nii.gz"))
    assert units_of(carried) == "SUVbw g/ml"
    assert np.allclose(sitk.GetArrayFromImage(carried), sitk.GetArrayFromImage(warped), atol=1e-5)


def test_a_series_of_what_is_not_given_is_refused(bodies, registration, tmp_path, capsys):
    command = ["apply", str(registration), "--labels", str(bodies), "--image-series", "4"]
    command += ["--reference", str(bodies), "--reference-series", "3", "--output", str(tmp_path / "a.nii.gz")]
    assert main(command) == 2
    assert "--image-series chooses a series of --image, which is not given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_study_without_a_choice_is_refused_with_what_it_holds(bodies, tmp_path, capsys):
    assert main(["register", str(bodies), str(bodies), "--output", str(tmp_path / "out"), *FAST]) == 2
    message = capsys.readouterr().err
    assert "3 MR 'MR ax', 17 slices of 16 x 15" in message and "4 PT 'PET AC'" in message
    assert not (tmp_path / "out").exists()
