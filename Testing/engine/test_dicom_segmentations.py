"""`apply --dicom` of labels: DICOM segmentations."""

import shutil

import numpy as np
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
    refused,
)
from dicom_patient import write_scan

from FoundationRegistrationLib.io.volumes import read_volume


@pytest.fixture
def session(tmp_path):
    return last_year_onto_today(tmp_path)


TERMS = "TerminologyEntry:3D Slicer list~SCT^49755003^Morphologically Abnormal Structure~SCT^4147007^Mass~^^~|"


@pytest.fixture
def drawn(session):
    """Two overlapping segments on the moving series, one of them described."""
    moving = read_volume(session / "moving", "moving", [])
    layers = []
    for center in ((0, 0, 0), (9, 0, 0)):
        ball = np.linalg.norm(all_points(moving) - center, axis=-1) < 14
        layer = sitk.GetImageFromArray(ball.astype(np.uint8))
        layer.CopyInformation(moving)
        layers.append(layer)
    image = sitk.Compose(layers)
    described = {
        "Segment0_Name": "lesion", "Segment0_Layer": "0", "Segment0_LabelValue": "1", "Segment0_Color": "1 0 0",
        "Segment0_Tags": TERMS, "Segment1_Name": "organ", "Segment1_Layer": "1", "Segment1_LabelValue": "1",
    }  # fmt: skip
    for key, value in described.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(session / "drawn.seg.nrrd"))
    return session


def all_points(image):
    index = np.moveaxis(np.indices(image.GetSize()), 0, -1).astype(float)
    matrix = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return (index @ matrix.T + image.GetOrigin()).transpose(2, 1, 0, 3)


def test_segments_are_written_as_dicom_on_the_slices_of_the_reference(drawn):
    highdicom = pytest.importorskip("highdicom", reason="highdicom writes DICOM segmentations")
    assert apply(drawn, "--labels", drawn / "drawn.seg.nrrd", "--output", drawn / "carried.seg.nrrd") == 0
    found = highdicom.seg.segread(drawn / "out" / "segmentation.dcm")
    fixed = headers(drawn / "fixed")
    assert found.StudyInstanceUID == fixed[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == fixed[0].FrameOfReferenceUID
    assert [item.SegmentLabel for item in found.SegmentSequence] == ["lesion", "organ"]
    assert found.get_segment_description(1).segmented_property_type.meaning == "Mass"
    carried = sitk.GetArrayFromImage(sitk.ReadImage(str(drawn / "carried.seg.nrrd")))
    by_place = sorted(
        fixed, key=lambda h: np.dot(h.ImagePositionPatient, np.cross(*np.reshape(h.ImageOrientationPatient, (2, 3))))
    )
    masks = found.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in by_place],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    assert carried.any(axis=(0, 1, 2)).all()
    np.testing.assert_array_equal(masks, carried)


def test_long_names_and_meanings_are_cut(drawn):
    highdicom = pytest.importorskip("highdicom", reason="highdicom writes DICOM segmentations")
    image = sitk.ReadImage(str(drawn / "drawn.seg.nrrd"))
    image.SetMetaData("Segment0_Name", "n" * 70)
    image.SetMetaData("Segment0_Tags", TERMS.replace("Mass", "m" * 70).replace("Structure", "s" * 70))
    sitk.WriteImage(image, str(drawn / "drawn.seg.nrrd"))
    assert apply(drawn, "--labels", drawn / "drawn.seg.nrrd") == 0
    found = highdicom.seg.segread(drawn / "out" / "segmentation.dcm").get_segment_description(1)
    kind, category = found.segmented_property_type, found.segmented_property_category
    assert found.segment_label == "n" * 64 and kind.meaning == "m" * 64 and kind.value == "4147007"
    assert category.meaning == f"Morphologically Abnormal {'s' * 39}"


TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "SliceThickness"),
)
DE_IDENTIFIED = {
    "all absent": {"lacks": (*TYPE_2, "Modality", "Manufacturer")},
    "all empty": dict.fromkeys(TYPE_2, ""),
    "odd": {
        "PatientBirthDate": "1970", "PatientSex": "female", "StudyDate": "2024-01-01", "StudyTime": "10:10:10",
        "StudyID": "S" * 40, "AccessionNumber": "1" * 40, "PatientComments": "Grüße", "Modality": "M" * 20,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DE_IDENTIFIED)
def test_a_segmentation_lies_on_a_de_identified_reference_in_the_patient_and_study_as_it_says(drawn, name):
    highdicom = pytest.importorskip("highdicom", reason="highdicom writes DICOM segmentations")
    reference = drawn / "again"
    write_scan(reference, day=TODAY, **DE_IDENTIFIED[name])
    assert apply(drawn, "--labels", drawn / "drawn.seg.nrrd", "--reference", reference) == 0
    found = highdicom.seg.segread(drawn / "out" / "segmentation.dcm")
    source = headers(reference)[0]
    for keyword in (*TYPE_2[:-1], "StudyInstanceUID", "PatientComments"):
        assert str(found.get(keyword) or "") == str(source.get(keyword) or ""), keyword
        assert keyword in found or keyword == "PatientComments"
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.pixel_array.any()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_files_that_cannot_be_referred_to_are_refused(drawn, capsys, keyword):
    for side, day in (("fixed", TODAY), ("moving", LAST_YEAR)):
        shutil.rmtree(drawn / side)
        write_scan(drawn / side, day=day, lacks=[keyword])
    start, new = ("apply", drawn / "result", "--reference", drawn / "fixed"), ("--dicom", drawn / "out")
    for command in (
        (*start, "--image", drawn / "moving", *new),
        (*start, "--labels", drawn / "drawn.seg.nrrd", *new),
        ("export", drawn / "result", "--format", "dicom", "--output", drawn / "reg.dcm"),
    ):
        assert f"has files without {keyword}" in refused(capsys, drawn, *command)


@NEEDS_VALIDATOR
def test_segmentations_conform(drawn):
    pytest.importorskip("highdicom", reason="highdicom writes DICOM segmentations")
    assert apply(drawn, "--labels", drawn / "drawn.seg.nrrd") == 0
    assert errors_in(drawn / "out" / "segmentation.dcm") == []
