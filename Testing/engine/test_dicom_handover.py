"""`apply --dicom` and `export --format dicom`: derived series, registration objects and segmentations."""

import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_patient import CT, PET, TURNED, write_scan
from dicom_series import AXIAL, CORONAL, MR, SAGITTAL, write_enhanced
from finished import deformable, finish, sampled_points
from scipy.ndimage import map_coordinates
from volumes import rigid_transform, through

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.dicom import series_uids
from FoundationRegistrationLib.io.units import units_of
from FoundationRegistrationLib.io.volumes import read_volume

VALIDATOR = shutil.which("dciodvfy")
NEEDS_VALIDATOR = pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy is in Debian's package dicom3tools")
CLOSE_MM = 0.05
TODAY, LAST_YEAR = "20240102", "20230101"


@pytest.fixture
def session(tmp_path):
    """An oblique MR of today registered with a sagittal one of last year, by a known transform."""
    return registered(tmp_path, MR, axes=SAGITTAL, day=LAST_YEAR)


def registered(folder, storage_class, transform=None, fixed_axes=TURNED, **options):
    write_scan(folder / "fixed", day=TODAY, axes=fixed_axes)
    write_scan(folder / "moving", storage_class, **options)
    inputs = {side: {"path": str(folder / side), **series_uids(folder / side)} for side in ("fixed", "moving")}
    volumes = [read_volume(folder / side, side, []) for side in ("fixed", "moving")]
    finish(folder / "result", *volumes, transform=transform, inputs=inputs)
    return folder


def run(*command):
    return main([str(word) for word in command])


def apply(folder, *more):
    reference = () if "--reference" in more else ("--reference", folder / "fixed")
    return run("apply", folder / "result", "--dicom", folder / "out", *reference, *more)


def refused(capsys, folder, *command):
    """The line with which a command is refused; nothing is written."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert run(*command) == 2
    assert sorted(folder.rglob("*")) == before
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(".\n")
    return said


def headers(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def errors_in(path):
    """What dciodvfy says is wrong."""
    said = subprocess.run([VALIDATOR, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


# ---- derived series ----


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


# ---- registration objects ----


def read_deformable(path):
    """The map of a Deformable Spatial Registration as DICOM defines it (PS3.3, C.20.3.1.1), from the file alone."""
    dataset = pydicom.dcmread(path)
    (item,) = (
        item for item in dataset.DeformableRegistrationSequence if "DeformableRegistrationGridSequence" in item
    )
    grid = item.DeformableRegistrationGridSequence[0]
    size, edge = np.array(grid.GridDimensions), np.array(grid.GridResolution, dtype=float)
    axes = np.array(grid.ImageOrientationPatient, dtype=float).reshape(2, 3)
    axes = np.vstack([axes, np.cross(*axes)])
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(*size[::-1], 3)
    before, after = (
        np.array(
            item[f"{which}DeformationMatrixRegistrationSequence"][0].FrameOfReferenceTransformationMatrix, dtype=float
        )
        for which in ("Pre", "Post")
    )

    def mapped(points):
        start = np.array(grid.ImagePositionPatient, dtype=float)
        place = ((points - start) @ axes.T / edge)[:, ::-1].T
        offsets = np.stack([map_coordinates(vectors[..., c], place, order=1, mode="nearest") for c in range(3)], 1)
        moved = applied(before.reshape(4, 4), points) + offsets
        return applied(after.reshape(4, 4), moved)

    return dataset, item, mapped


def applied(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def export(folder, *more):
    return run("export", folder / "result", "--format", "dicom", "--output", folder / "reg.dcm", *more)


def test_the_deformable_registration_is_the_whole_transform(session):
    assert export(session) == 0
    dataset, item, mapped = read_deformable(session / "reg.dcm")
    fixed, moving = headers(session / "fixed"), headers(session / "moving")
    assert dataset.SOPClassUID.name == "Deformable Spatial Registration Storage"
    assert dataset.FrameOfReferenceUID == fixed[0].FrameOfReferenceUID
    assert dataset.StudyInstanceUID == fixed[0].StudyInstanceUID
    assert item.SourceFrameOfReferenceUID == moving[0].FrameOfReferenceUID
    assert {i.ReferencedSOPInstanceUID for i in item.ReferencedImageSequence} == {m.SOPInstanceUID for m in moving}
    points, _ = sampled_points(read_volume(session / "fixed", "fixed", []))
    expected = through(deformable(), points)
    assert np.linalg.norm(expected - applied(matrix_of_rigid(), points), axis=1).max() > 2
    assert np.linalg.norm(mapped(points) - expected, axis=1).max() < CLOSE_MM


def matrix_of_rigid():
    rows = through(rigid_transform(), np.vstack([np.eye(3), np.zeros((1, 3))]))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (rows[:3] - rows[3]).T, rows[3]
    return matrix


def test_a_registration_of_another_form_is_sampled_on_the_slices_of_the_fixed_series(tmp_path):
    field = sitk.DisplacementFieldTransform(sitk.DisplacementFieldTransform(deformable().GetNthTransform(1)))
    other = sitk.CompositeTransform([field, rigid_transform()])
    folder = registered(tmp_path, MR, transform=other, axes=SAGITTAL, day=LAST_YEAR)
    assert export(folder) == 0
    points, _ = sampled_points(read_volume(folder / "fixed", "fixed", []))
    mapped = read_deformable(folder / "reg.dcm")[2]
    assert np.linalg.norm(mapped(points) - through(other, points), axis=1).max() < CLOSE_MM


def test_another_library_reads_the_deformable_registration_as_the_same_transform(session):
    parser = pytest.importorskip("pydicomrt.reg.parser", reason="needs pydicomrt (pip install --no-deps pydicomrt)")
    assert export(session) == 0
    (found,) = parser.get_deformable_registrations(pydicom.dcmread(session / "reg.dcm"))
    grid = found["DeformableRegistrationGrid"]
    field = sitk.GetImageFromArray(grid["VectorGridData"].astype(float), isVector=True)
    field.SetOrigin([float(value) for value in grid["ImagePositionPatient"]])
    field.SetSpacing([float(value) for value in grid["GridResolution"]])
    rows = np.array(grid["ImageOrientationPatient"], dtype=float).reshape(2, 3)
    field.SetDirection(np.vstack([rows, np.cross(*rows)]).T.ravel().tolist())
    after = np.reshape(found["PostDeformationMatrixRegistration"], (4, 4))
    np.testing.assert_array_equal(np.reshape(found["PreDeformationMatrixRegistration"], (4, 4)), np.eye(4))
    affine = sitk.AffineTransform(after[:3, :3].ravel().tolist(), after[:3, 3].tolist())
    theirs = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
    fixed, moving = (read_volume(session / side, side, []) for side in ("fixed", "moving"))
    points, _ = sampled_points(fixed)
    assert np.linalg.norm(through(theirs, points) - through(deformable(), points), axis=1).max() < CLOSE_MM
    ours, as_read = (
        sitk.GetArrayFromImage(sitk.Resample(sitk.Cast(moving, sitk.sitkFloat32), fixed, transform, sitk.sitkLinear))
        for transform in (deformable(), theirs)
    )
    np.testing.assert_allclose(as_read, ours, atol=0.5)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_spatial_registration_maps_moving_points_to_fixed_points(session, direction):
    assert export(session, "--linear", "--direction", direction) == 0
    dataset = pydicom.dcmread(session / "reg.dcm")
    assert dataset.SOPClassUID.name == "Spatial Registration Storage"
    frames = [headers(session / side)[0].FrameOfReferenceUID for side in ("fixed", "moving")]
    target, source = frames if direction == "forward" else frames[::-1]
    assert dataset.FrameOfReferenceUID == target
    items = {
        item.FrameOfReferenceUID: item.MatrixRegistrationSequence[0].MatrixSequence[0]
        for item in dataset.RegistrationSequence
    }
    assert items[source].FrameOfReferenceTransformationMatrixType == "RIGID"
    matrix = np.array(items[source].FrameOfReferenceTransformationMatrix, dtype=float).reshape(4, 4)
    points, _ = sampled_points(read_volume(session / "fixed", "fixed", []))
    moved = through(rigid_transform(), points)
    start, end = (moved, points) if direction == "forward" else (points, moved)
    np.testing.assert_allclose(applied(matrix, start), end, atol=1e-6)
    np.testing.assert_array_equal(
        np.array(items[target].FrameOfReferenceTransformationMatrix, dtype=float), np.eye(4).ravel()
    )


@NEEDS_VALIDATOR
@pytest.mark.parametrize("more", [(), ("--linear",)], ids=["deformable", "linear"])
def test_registration_objects_conform(session, more):
    assert export(session, *more) == 0
    assert errors_in(session / "reg.dcm") == []


def test_one_frame_of_reference_is_said(tmp_path, capsys):
    folder = registered(tmp_path, MR, axes=SAGITTAL, day=TODAY)
    assert export(folder) == 0
    assert "one frame of reference" in capsys.readouterr().err


# ---- segmentations ----

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


# ---- what is refused ----


def test_two_patients_are_not_mixed_unless_asked(tmp_path, capsys):
    folder = registered(tmp_path, MR, axes=SAGITTAL, day=LAST_YEAR, PatientID="P2")
    image = ("--image", folder / "moving", "--reference", folder / "fixed")
    command = ("apply", folder / "result", "--dicom", folder / "out", *image)
    assert "patient IDs" in refused(capsys, folder, *command)
    assert run(*command, "--allow-different-patients") == 0
    assert {image.PatientID for image in headers(folder / "out")} == {"P1"}
    exporting = ("export", folder / "result", "--format", "dicom", "--output", folder / "reg.dcm")
    assert "patient IDs" in refused(capsys, folder, *exporting)
    assert run(*exporting, "--allow-different-patients") == 0


def test_what_cannot_be_dicom_is_refused(session, capsys):
    write_scan(session / "elsewhere", day="20240103")
    sitk.WriteImage(read_volume(session / "moving", "moving", []), str(session / "moving.nii.gz"))
    (session / "points.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    (session / "taken").mkdir()
    (session / "taken" / "notes.txt").write_text("mine")
    (session / "link").symlink_to(session / "fixed", target_is_directory=True)
    start = ("apply", session / "result")
    fixed, moving = ("--reference", session / "fixed"), ("--image", session / "moving")
    new = ("--dicom", session / "out")
    cases = [
        ((*start, "--image", session / "moving.nii.gz", *fixed, *new), "is not DICOM"),
        ((*start, *moving, "--reference", session / "moving.nii.gz", *new), "--reference"),
        ((*start, *moving, "--reference", session / "elsewhere", *new), "another frame of reference"),
        ((*start, *moving, *fixed, "--dicom", session / "taken"), "not empty"),
        ((*start, *moving, *fixed), "Give --output"),
        ((*start, *moving, *fixed, "--dicom", session / "moving" / "derived"), "lies in the --image, which is"),
        ((*start, *moving, *fixed, "--dicom", session / "fixed" / "a" / "b"), "lies in the --reference, which is"),
        ((*start, *moving, *fixed, "--dicom", session / "link" / "b"), "lies in the --reference, which is"),
        ((*start, "--points", session / "points.csv", *new, "--output", session / "p.csv"), "Points"),
    ]
    exporting = ("export", session / "result", "--format", "dicom", "--output")
    cases += [
        ((*exporting, session / "reg.h5"), ".dcm"),
        ((*exporting, session / "fixed" / "reg.dcm"), "is an input"),
        ((*exporting, session / "reg.dcm", "--moving", session / "moving.nii.gz"), "is not DICOM"),
        ((*exporting, session / "reg.dcm", "--fixed", session / "elsewhere"), "another frame of reference"),
    ]
    for command, words in cases:
        assert words in refused(capsys, session, *command), command


def test_an_enhanced_series_is_not_derived_from(session, capsys):
    places = np.arange(8)[:, None] * [0.0, 0.0, 4.0] - [10.0, 10.0, 16.0]
    write_enhanced(session / "enhanced.dcm", places, PatientID="P1")
    command = ("apply", session / "result", "--image", session / "enhanced.dcm", "--reference", session / "fixed")
    assert "one slice a file" in refused(capsys, session, *command, "--dicom", session / "out")


def test_register_records_where_the_dicom_series_are_and_export_finds_them(tmp_path):
    write_scan(tmp_path / "fixed", day=TODAY)
    write_scan(tmp_path / "moving" / "chosen", axes=AXIAL, day=LAST_YEAR, SeriesNumber=7)
    write_scan(tmp_path / "moving" / "other", axes=SAGITTAL, day=LAST_YEAR)
    command = [
        "register",
        tmp_path / "fixed",
        tmp_path / "moving",
        "--output",
        tmp_path / "result",
        "--encoder",
        "mind",
    ]
    more = ["--working-spacing-mm", "8", "--iterations", "0", "--initialization", "none", "--progress", "none"]
    assert run(*command, *more, "--moving-series", "7") == 0
    recorded = json.loads((tmp_path / "result" / "report.json").read_text())["inputs"]
    for side, series in (("fixed", "fixed"), ("moving", "moving/chosen")):
        header = headers(tmp_path / series)[0]
        assert recorded[side]["path"] == str(tmp_path / side)
        assert recorded[side]["series_instance_uid"] == header.SeriesInstanceUID
        assert recorded[side]["frame_of_reference_uid"] == header.FrameOfReferenceUID
    assert export(tmp_path) == 0
    transform = sitk.ReadTransform(str(tmp_path / "result" / "transform.h5"))
    points, _ = sampled_points(read_volume(tmp_path / "fixed", "fixed", []))
    mapped = read_deformable(tmp_path / "reg.dcm")[2]
    assert np.linalg.norm(mapped(points) - through(transform, points), axis=1).max() < CLOSE_MM
