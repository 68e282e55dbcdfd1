"""PET in SUV by body weight: factors computed by hand, and words where the header does not suffice."""

import contextlib
import random

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import AXIAL, PET, injection, oblique, positions, scene, write_slice
from pydicom.uid import ImplicitVRLittleEndian

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.dicom import read_dicom, read_dicom_frames
from FoundationRegistrationLib.io.units import units_of
from FoundationRegistrationLib.io.volumes import read_volume, write_volume_directly

AXES = oblique(np.random.default_rng(3))
# 70 kg and 350 MBq, of which one half-life later 175 MBq are left: 70000 g / 175e6 Bq.
AFTER_ONE_HALF_LIFE = 4e-4
AS_INJECTED = 2e-4


def uptake(points):
    return 2000 + scene(points)


def write_pet(folder, lacks=(), private=None, own=None, **tags):
    """Write a PET whose slices have different slopes, as those of scanners do."""
    folder.mkdir(exist_ok=True)
    said = {keyword: value for keyword, value in {**PET, **tags}.items() if keyword not in lacks}
    for k, place in enumerate(positions(axes=AXES)):
        path = folder / f"{k}.dcm"
        more = own(k) if own else {}
        write_slice(
            path,
            place,
            AXES,
            show=uptake,
            slope=0.5 + 0.1 * k,
            signed=False,
            InstanceNumber=k + 1,
            **{**said, **more},
        )
        if private:
            add_private(path, *private)


def add_private(path, maker, values):
    dataset = pydicom.dcmread(path)
    group = 0x7053 if maker.startswith("Philips") else 0x0009
    block = dataset.private_block(group, maker, create=True)
    for element, vr, value in values:
        block.add_new(element, vr, value)
    dataset.save_as(path)


def factor_and_words(folder, **options):
    messages = []
    image = read_dicom(folder, "The moving volume", messages, **options)
    at = np.array([image.TransformIndexToPhysicalPoint((4, 3, k)) for k in range(image.GetSize()[2])])
    values = np.array([image[4, 3, k] for k in range(image.GetSize()[2])])
    factors = values / uptake(at)
    assert factors == pytest.approx(np.full(6, factors.mean()), rel=1e-3)
    return factors.mean(), units_of(image), " ".join(messages)


CONVERTED = {
    "corrected to the start of the scan": ({}, AFTER_ONE_HALF_LIFE, "70 kg, 350 MBq 109.8 min before the scan"),
    "corrected to the injection": ({"DecayCorrection": "ADMIN"}, AS_INJECTED, "decay corrected to the injection"),
    "several beds, each later": (
        {"own": lambda k: {"AcquisitionTime": f"11{40 + 3 * (k // 2)}00"}},
        AFTER_ONE_HALF_LIFE,
        "(SeriesTime)",
    ),
    "date and time of the injection in one": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                "000000", RadiopharmaceuticalStartDateTime="20240229095013.8"
            )
        },
        AFTER_ONE_HALF_LIFE,
        "",
    ),
    "injection in UTC, scan in another time zone": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                "000000", RadiopharmaceuticalStartDateTime="20240229085013.8+0000"
            ),
            "TimezoneOffsetFromUTC": "+0100",
        },
        AFTER_ONE_HALF_LIFE,
        "109.8 min before",
    ),
    "injection in UTC, scan in an unknown time zone, local time of the injection": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                "095013.8", RadiopharmaceuticalStartDateTime="20240229085013.8+0000"
            ),
        },
        AFTER_ONE_HALF_LIFE,
        "109.8 min before",
    ),
    "injected before midnight": (
        {
            "RadiopharmaceuticalInformationSequence": injection("231013.8"),
            **{"SeriesDate": "20240301", "SeriesTime": "010000", "AcquisitionDate": "20240301"},
            "AcquisitionTime": "010000",
        },
        AFTER_ONE_HALF_LIFE,
        "109.8 min before",
    ),
    "scanned over midnight": (
        {
            "RadiopharmaceuticalInformationSequence": injection("220913.8"),
            "SeriesTime": "235900",
            "own": lambda k: {
                "AcquisitionDate": "20240229" if k < 3 else "20240301",
                "AcquisitionTime": "235900" if k < 3 else "000200",
            },
        },
        AFTER_ONE_HALF_LIFE,
        "",
    ),
    "processed later": (
        {"SeriesTime": "160000", "own": lambda k: {"AcquisitionTime": f"11{40 + k}00"}},
        AFTER_ONE_HALF_LIFE,
        "first AcquisitionTime, since SeriesTime is later",
    ),
    "processed later, by the times of the beds": (
        {
            "SeriesTime": "160000",
            # Beds of 2 min; the mean count rate of a bed is reached shortly before its middle.
            "own": lambda k: {
                "AcquisitionTime": f"11{42 + 2 * k}00",
                "ActualFrameDuration": "120000",
                "FrameReferenceTime": str(1000 * (120 * (k + 1) + 59.87)),
            },
        },
        AFTER_ONE_HALF_LIFE,
        "from FrameReferenceTime",
    ),
    "processed later, with GE's own time": (
        {
            "SeriesTime": "160000",
            "AcquisitionTime": "115000",
            "private": ("GEMS_PETD_01", [(0x0D, "DT", "20240229114000.00")]),
        },
        AFTER_ONE_HALF_LIFE,
        "by GE",
    ),
    "factor of Philips": (
        {"Units": "CNTS", "private": ("Philips PET Private Group", [(0x00, "DS", "0.0125"), (0x09, "DS", "3")])},
        0.0125,
        "1 counts = 0.0125 g/ml: the factor stored by Philips",
    ),
    "factor of Philips without a type in the file": (
        {
            "syntax": ImplicitVRLittleEndian,
            "Units": "CNTS",
            "private": ("Philips PET Private Group", [(0x00, "DS", "0.0125")]),
        },
        0.0125,
        "",
    ),
    "factor of Philips of unknown type": (
        {"Units": "CNTS", "private": ("Philips PET Private Group", [(0x00, "UN", b"0.0125")])},
        0.0125,
        "",
    ),
    "activity of Philips": (
        {"Units": "CNTS", "private": ("Philips PET Private Group", [(0x00, "DS", "0"), (0x09, "DS", "3")])},
        3 * AFTER_ONE_HALF_LIFE,
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_values_are_converted_to_suv_by_body_weight(tmp_path, name):
    options, factor, words = CONVERTED[name]
    write_pet(tmp_path, **options)
    found, units, said = factor_and_words(tmp_path)
    assert found == pytest.approx(factor, rel=1e-3)
    assert units == "SUVbw g/ml"
    assert "was converted to SUV by body weight (g/ml)" in said and words in said


def test_suv_of_the_files_stays_what_it_is(tmp_path):
    for k, (tags, units) in enumerate(
        (
            ({"Units": "GML"}, "SUVbw g/ml"),
            ({"Units": "GML", "SUVType": "LBMJANMA"}, "SUVlbm g/ml"),
            ({"Units": "CM2ML"}, "SUVbsa cm2/ml"),
        )
    ):
        write_pet(tmp_path / str(k), lacks=["PatientWeight"], **tags)
        found, stated, said = factor_and_words(tmp_path / str(k))
        assert found == pytest.approx(1, rel=1e-3) and stated == units
        assert said == f"The moving volume is a PET in {units}."


KEPT = {
    "no weight": ({"lacks": ["PatientWeight"]}, "PatientWeight is missing"),
    "weight of zero": ({"PatientWeight": "0"}, "PatientWeight is 0, which is not possible in kg"),
    "weight in grams": ({"PatientWeight": "70000"}, "not possible in kg"),
    "no injection": ({"lacks": ["RadiopharmaceuticalInformationSequence"]}, "the injection is missing"),
    "two injections": (
        {"RadiopharmaceuticalInformationSequence": [*injection(), *injection()]},
        "several injections",
    ),
    "no dose": (
        {"RadiopharmaceuticalInformationSequence": injection(lacks=["RadionuclideTotalDose"])},
        "RadionuclideTotalDose is missing",
    ),
    "dose in MBq": (
        {"RadiopharmaceuticalInformationSequence": injection(RadionuclideTotalDose="350")},
        "RadionuclideTotalDose is 350, which is not possible in Bq",
    ),
    "no half-life": (
        {"RadiopharmaceuticalInformationSequence": injection(lacks=["RadionuclideHalfLife"])},
        "RadionuclideHalfLife is missing",
    ),
    "no time of injection": (
        {"RadiopharmaceuticalInformationSequence": injection(lacks=["RadiopharmaceuticalStartTime"])},
        "the time of the injection is missing",
    ),
    "time of the injection in UTC, scan in an unknown time zone": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                lacks=["RadiopharmaceuticalStartTime"], RadiopharmaceuticalStartDateTime="20240229085013+0000"
            )
        },
        "TimezoneOffsetFromUTC",
    ),
    "no time of the scan": ({"lacks": ["AcquisitionTime"]}, "the time of the scan is missing"),
    "dates changed by anonymisation": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                RadiopharmaceuticalStartDateTime="20200101095013"
            )
        },
        "check the dates",
    ),
    "injected after the scan": (
        {
            "RadiopharmaceuticalInformationSequence": injection(
                RadiopharmaceuticalStartDateTime="20240229120000"
            )
        },
        "the injection would be -20 min before the scan",
    ),
    "no attenuation correction": ({"CorrectedImage": ["DECY"]}, "CorrectedImage lacks ATTN or DECY"),
    "no decay correction": ({"DecayCorrection": "NONE"}, "DecayCorrection is 'NONE', not START or ADMIN"),
    "counts without a factor": ({"Units": "CNTS"}, "7053,1000 or 7053,1009"),
    "factor of another maker": (
        {"Units": "CNTS", "private": ("Philips Imaging", [(0x00, "DS", "0.0125")])},
        "7053,1000 or 7053,1009",
    ),
    "other units": ({"Units": "PROPCPS"}, "only Bq/ml and the counts of Philips"),
    "no units": ({"lacks": ["Units"]}, "Units (0054,1001) is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_is_missing_is_named_and_the_values_stay(tmp_path, name):
    options, words = KEPT[name]
    write_pet(tmp_path, **options)
    found, units, said = factor_and_words(tmp_path)
    assert found == pytest.approx(1, rel=1e-3)
    assert "SUV" not in units and "was not converted to SUV" in said and words in said
    assert said.startswith(f"The moving volume is a PET in {units} and") and said.endswith(".")


def test_damaged_headers_never_end_in_a_traceback(tmp_path):
    """100 series with one to four random bytes of the header of each slice changed alike."""
    write_pet(tmp_path, own=lambda k: {"SeriesTime": "16", "FrameReferenceTime": "60000", "ActualFrameDuration": "9"})
    rng = random.Random(4)
    sound = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())[:3]}
    for path in sorted(tmp_path.iterdir())[3:]:
        path.unlink()
    for _ in range(100):
        places = [(rng.uniform(0.2, 1), rng.randrange(256)) for _ in range(rng.randint(1, 4))]
        for path, data in sound.items():
            damaged, end = bytearray(data), data.rindex(b"\xe0\x7f\x10\x00")
            for share, value in places:
                damaged[int(share * end)] = value
            path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            read_dicom(tmp_path, "The moving volume", [])


def test_other_modalities_are_not_touched(tmp_path):
    write_pet(tmp_path, Modality="NM")
    found, units, said = factor_and_words(tmp_path)
    assert found == pytest.approx(1, rel=1e-3) and units == said == ""


def test_frames_of_a_dynamic_pet_are_decayed_to_the_start_of_the_series(tmp_path):
    for n in range(2):
        own = {"AcquisitionTime": f"11{40 + 15 * n}00", "FrameReferenceTime": str(1000 * (600 + 900 * n))}
        for k, place in enumerate(positions(axes=AXIAL)):
            write_slice(tmp_path / f"{n}{k}", place, show=uptake, signed=False, **{**PET, **own})
    frames = read_dicom_frames(tmp_path, "The series", [])
    assert [seconds for _, seconds in frames] == [0, 900]
    for image, _ in frames:
        point = np.array([image.TransformIndexToPhysicalPoint((4, 3, 2))])
        assert image[4, 3, 2] / uptake(point)[0] == pytest.approx(AFTER_ONE_HALF_LIFE, rel=1e-3)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_units_stay_in_the_files_that_are_written(tmp_path, ending):
    write_pet(tmp_path / "pet")
    image = read_volume(tmp_path / "pet", "moving", [])
    write_volume_directly(image, tmp_path / f"suv{ending}")
    again = read_volume(tmp_path / f"suv{ending}", "moving", [])
    assert units_of(again) == "SUVbw g/ml"
    assert np.allclose(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))
