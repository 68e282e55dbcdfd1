"""`export --format dicom`: registration objects; and what neither it nor `apply --dicom` takes."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_handover import (
    CLOSE_MM,
    LAST_YEAR,
    NEEDS_VALIDATOR,
    TODAY,
    errors_in,
    headers,
    last_year_onto_today,
    refused,
    registered,
    run,
)
from dicom_patient import write_scan
from dicom_series import AXIAL, MR, SAGITTAL, write_enhanced
from finished import deformable, sampled_points
from scipy.ndimage import map_coordinates
from volumes import rigid_transform, through

from FoundationRegistrationLib.io.volumes import read_volume


@pytest.fixture
def session(tmp_path):
    return last_year_onto_today(tmp_path)


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
