"""`apply --dicom` of an image: derived series."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_handover import (
    LAST_YEAR,
    NEEDS_VALIDATOR,
    TODAY,
    apply,
    errors_in,
    headers,
    last_year_onto_today,
    registered,
)
from dicom_patient import CT, PET
from dicom_series import AXIAL, CORONAL, MR, SAGITTAL

from FoundationRegistrationLib.io.units import units_of
from FoundationRegistrationLib.io.volumes import read_volume


@pytest.fixture
def session(tmp_path):
    return last_year_onto_today(tmp_path)


@pytest.mark.parametrize(
    ("storage_class", "axes", "options"),
    [
        (MR, SAGITTAL, {"slope": 1.0}),
        (MR, AXIAL, {"slope": 0.37, "intercept": 12.0}),
        (CT, AXIAL, {"slope": 1.0, "intercept": -1024.0}),
        (PET, CORONAL, {"slope": 1.7, "intercept": 0.0}),
    ],
    ids=["MR", "rescaled MR", "CT", "PET"],
)
def test_a_derived_series_holds_the_warped_values_on_the_slices_of_the_reference(
    tmp_path, storage_class, axes, options
):
    folder = registered(tmp_path, storage_class, axes=axes, day=LAST_YEAR, **options)
    assert apply(folder, "--image", folder / "moving", "--output", folder / "out.nii.gz") == 0
    found, expected = read_volume(folder / "out", "given", []), read_volume(folder / "out.nii.gz", "given", [])
    fixed = read_volume(folder / "fixed", "fixed", [])
    for image in (found, expected):
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint((3, 5, 7)), fixed[3:, 5:, 7:].GetOrigin(), atol=1e-4
        )
        assert image.GetSize() == fixed.GetSize()
    values, wanted = (sitk.GetArrayFromImage(image).astype(float) for image in (found, expected))
    stored = [np.ptp(image.pixel_array) for image in headers(folder / "out")]
    assert max(stored) > 500 and np.ptp(wanted) > 0.1
    np.testing.assert_allclose(values, wanted, atol=np.abs(wanted).max() / 60000)
    if storage_class == PET:  # it was read in SUV, and is so again
        assert units_of(found) == units_of(expected) == "SUVbw g/ml"
        assert {(image.Units, image.SUVType) for image in headers(folder / "out")} == {("GML", "BW")}


def test_patient_study_and_place_are_those_of_the_reference_and_the_acquisition_that_of_the_moving_series(session):
    assert apply(session, "--image", session / "moving") == 0
    derived, fixed, moving = (headers(session / name) for name in ("out", "fixed", "moving"))
    assert len(derived) == len(fixed) and not (session / "out.nii.gz").exists()
    of_fixed = ("PatientID", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "PatientPosition")
    of_moving = ("SeriesDate", "SeriesTime", "AcquisitionDate", "EchoTime", "Manufacturer", "SOPClassUID")
    for image in derived:
        assert [image[k].value for k in of_fixed] == [fixed[0][k].value for k in of_fixed]
        assert [image[k].value for k in of_moving] == [moving[0][k].value for k in of_moving]
        assert str(image.PatientName) == "Müller^Änne"
        assert list(image.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert image.DerivationCodeSequence[0].CodeMeaning == "Deformed for Registration"
    known = {image.SOPInstanceUID for image in (*fixed, *moving)}
    assert not known & {image.SOPInstanceUID for image in derived}
    assert len({image.SOPInstanceUID for image in derived}) == len(derived)
    series = {image.SeriesInstanceUID for image in derived}
    assert len(series) == 1 and not series & {fixed[0].SeriesInstanceUID, moving[0].SeriesInstanceUID}


def test_each_derived_image_names_the_slices_that_it_shows(tmp_path):
    shift = sitk.CompositeTransform([sitk.TranslationTransform(3, (0.0, 0.0, 8.0))])
    folder = registered(tmp_path, MR, transform=shift, fixed_axes=AXIAL, axes=AXIAL, day=LAST_YEAR)
    assert apply(folder, "--image", folder / "moving") == 0
    heights = {image.SOPInstanceUID: image.ImagePositionPatient[2] for image in headers(folder / "moving")}
    for image in headers(folder / "out"):
        used = [heights[item.ReferencedSOPInstanceUID] for item in image.SourceImageSequence]
        shown = min(image.ImagePositionPatient[2] + 8.0, max(heights.values()))
        assert min(used) <= shown <= max(used)
        assert len(used) <= 4


def test_what_is_no_longer_true_is_left_out_and_what_suv_needs_is_kept(tmp_path):
    spoilt = {"SmallestImagePixelValue": 0, "SliceLocation": "3", "WindowCenter": "40"}
    folder = registered(tmp_path, PET, axes=AXIAL, day=LAST_YEAR, PatientWeight="72", **spoilt)
    for number, path in enumerate(sorted((folder / "moving").iterdir())):
        header = pydicom.dcmread(path)
        header.add_new(0x60000010, "US", 4)  # rows of an overlay
        header.add_new(0x00091001, "LO", "private")
        if number == 4:
            header.WindowCenter, header.AcquisitionTime = "50", "081000"
        header.save_as(path)
    assert apply(folder, "--image", folder / "moving") == 0
    for image in headers(folder / "out"):
        for keyword in ("SmallestImagePixelValue", "SliceLocation", "WindowCenter", (0x6000, 0x0010)):
            assert keyword not in image
        assert not any(element.tag.is_private for element in image)
        assert image.PatientWeight == 72 and image.StudyDate == TODAY
        assert image.SeriesDate == LAST_YEAR and image.AcquisitionTime == "081000"
        assert image.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose == 350000000
        assert image.NumberOfSlices == 10 and image.RescaleIntercept == 0


@pytest.mark.parametrize(
    ("colours", "shape", "expected"),
    [
        ("MONOCHROME1", "INVERSE", "INVERSE"),
        ("MONOCHROME1", None, None),
        ("MONOCHROME2", "IDENTITY", "IDENTITY"),
        ("MONOCHROME2", "INVERSE", "IDENTITY"),
    ],
)
def test_a_derived_image_is_as_dark_or_light_as_its_source(tmp_path, colours, shape, expected):
    tags = {"PhotometricInterpretation": colours} | ({"PresentationLUTShape": shape} if shape else {})
    folder = registered(tmp_path, MR, axes=AXIAL, day=LAST_YEAR, **tags)
    assert apply(folder, "--image", folder / "moving", "--output", folder / "out.nii.gz") == 0
    for image in headers(folder / "out"):
        assert image.PhotometricInterpretation == colours and image.get("PresentationLUTShape") == expected
    derived, written = (read_volume(folder / name, "given", []) for name in ("out", "out.nii.gz"))
    np.testing.assert_allclose(*(sitk.GetArrayFromImage(image) for image in (derived, written)), atol=0.5)


@pytest.mark.parametrize(
    ("storage_class", "options", "is_kept"),
    [
        (CT, {}, True),
        (PET, {"Units": "GML", "SUVType": "BW"}, True),
        (PET, {"Units": "CNTS"}, True),
        (PET, {"Units": "BQML"}, False),
        (CT, {"lacks": ["WindowWidth"]}, False),
    ],
    ids=["CT", "PET in SUV", "PET in counts", "PET that becomes SUV", "no width"],
)
def test_a_window_is_kept_in_the_units_of_the_values(tmp_path, storage_class, options, is_kept):
    window = {"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "LINEAR"}
    mapped = {"RealWorldValueMappingSequence": [pydicom.Dataset()]}
    folder = registered(tmp_path, storage_class, axes=AXIAL, day=LAST_YEAR, **window, **mapped, **options)
    assert apply(folder, "--image", folder / "moving") == 0
    for image in headers(folder / "out"):
        assert {str(image.get(keyword, "")) for keyword in window} == ({*window.values()} if is_kept else {""})
        assert "RealWorldValueMappingSequence" not in image, "it maps other stored values"


@NEEDS_VALIDATOR
@pytest.mark.parametrize("storage_class", [MR, CT, PET], ids=["MR", "CT", "PET"])
def test_derived_images_conform(tmp_path, storage_class):
    folder = registered(tmp_path, storage_class, axes=AXIAL, day=LAST_YEAR)
    assert apply(folder, "--image", folder / "moving") == 0
    assert errors_in(folder / "out" / "0001.dcm") == []
