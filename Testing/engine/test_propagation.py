"""What `apply` carries: every pixel type by its own values, and what is lost on the way is said."""

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, empty_grid, on_grid, points_of, rigid_transform, through

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.spatial.warping import warp_image

SLOPES = np.array([[0.7, -0.3, 0.2], [-0.1, 0.5, 0.9], [0.4, 0.6, -0.8]])


@pytest.fixture(scope="module")
def registration(tmp_path_factory):
    """The folder of a registration whose truth is known: a rigid motion."""
    folder = tmp_path_factory.mktemp("registration")
    write_transform(rigid_transform(), folder / "transform.h5")
    write_transform(rigid_transform().GetInverse(), folder / "inverse.h5")
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A grid that the source covers wholly, oblique and anisotropic."""
    path = tmp_path_factory.mktemp("reference") / "reference.nrrd"
    sitk.WriteImage(empty_grid("oblique", extent_mm=(40.0, 36.0, 44.0)), str(path))
    return path


def apply(registration, reference, kind, source, output, *options):
    command = ["apply", str(registration), f"--{kind}", str(source), "--reference", str(reference)]
    return main([*command, "--output", str(output), "--overwrite", *options])


def linear_functions(points):
    """Three functions of a point, which linear interpolation returns exactly, (N, 3)."""
    return points @ SLOPES + [120.0, 90.0, 150.0]


def whole(values, pixel_type):
    return (np.rint(values) if np.issubdtype(pixel_type, np.integer) else values).astype(pixel_type)


def source_image(name, kind, pixel_type):
    grid = empty_grid(name, extent_mm=(120.0, 110.0, 120.0))
    values = linear_functions(points_of(grid)).reshape(*grid.GetSize()[::-1], 3)
    if kind == "complex":
        image = sitk.GetImageFromArray((values[..., 0] + 1j * values[..., 1]).astype(pixel_type))
    elif kind == "vector":
        image = sitk.GetImageFromArray(whole(values, pixel_type), isVector=True)
    else:
        image = sitk.GetImageFromArray(whole(values[..., 0], pixel_type))
    image.CopyInformation(grid)
    return image


KINDS = [
    ("scalar", np.float32, 1e-3),
    ("scalar", np.float64, 1e-9),
    ("scalar", np.int16, 1.0),
    ("scalar", np.uint32, 1.0),
    ("scalar", np.int64, 1.0),
    ("vector", np.float32, 1e-3),
    ("vector", np.float64, 1e-9),
    ("vector", np.uint8, 1.0),
    ("vector", np.int16, 1.0),
    ("complex", np.complex64, 1e-3),
    ("complex", np.complex128, 1e-9),
]


@pytest.mark.parametrize(("kind", "pixel_type", "tolerance"), KINDS)
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_every_kind_of_voxel_keeps_its_values(
    registration, reference, tmp_path, kind, pixel_type, tolerance, interpolation
):
    grids = sorted(GRIDS)
    image = source_image(grids[len(kind) % len(grids)], kind, pixel_type)
    ending = "nrrd" if kind == "complex" else "mha"
    source, output = tmp_path / f"source.{ending}", tmp_path / f"output.{ending}"
    sitk.WriteImage(image, str(source))
    assert apply(registration, reference, "image", source, output, "--interpolation", interpolation) == 0
    result = sitk.ReadImage(str(output))
    assert result.GetPixelID() == image.GetPixelID()
    expected = linear_functions(through(rigid_transform(), points_of(sitk.ReadImage(str(reference)))))
    values = sitk.GetArrayFromImage(result).reshape(len(expected), -1)
    if kind == "complex":
        expected = expected[:, :1] + 1j * expected[:, 1:2]
    # Cubic splines repeat a line only away from the border of the source.
    slack = tolerance if interpolation == "linear" else max(tolerance, 1.2)
    assert np.abs(values - expected[:, : values.shape[1]]).max() <= slack


def test_complex_numbers_are_not_written_where_they_cannot_be_kept(registration, reference, tmp_path, capsys):
    sitk.WriteImage(source_image("RAS", "complex", np.complex64), str(tmp_path / "raw.nrrd"))
    assert apply(registration, reference, "image", tmp_path / "raw.nrrd", tmp_path / "out.mha") == 2
    assert "complex" in capsys.readouterr().err


def test_directions_are_said_not_to_turn(registration, reference, tmp_path, capsys):
    sitk.WriteImage(source_image("RAS", "vector", np.float32), str(tmp_path / "field.nrrd"))
    assert apply(registration, reference, "image", tmp_path / "field.nrrd", tmp_path / "out.nrrd") == 0
    assert "not reoriented" in capsys.readouterr().err


def shifted(image, path, shift):
    moved = sitk.Image(image)
    moved.SetOrigin(np.add(image.GetOrigin(), shift).tolist())
    sitk.WriteImage(moved, str(path))
    return path


def test_a_volume_that_does_not_meet_the_reference_is_refused_or_said(registration, reference, tmp_path, capsys):
    image = source_image("LAS", "scalar", np.float32)
    far = shifted(image, tmp_path / "far.nrrd", (300.0, 0.0, 0.0))
    output = tmp_path / "output.nrrd"
    assert apply(registration, reference, "image", far, output) == 2
    assert "does not overlap with the reference" in capsys.readouterr().err
    assert not output.exists()
    at_the_edge = shifted(image, tmp_path / "edge.nrrd", (70.0, 0.0, 0.0))
    assert apply(registration, reference, "image", at_the_edge, output) == 0
    said = capsys.readouterr().err
    points = through(rigid_transform(), points_of(sitk.ReadImage(str(reference))))
    moved = sitk.ReadImage(str(at_the_edge))
    index = np.array([moved.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
    inside = ((index >= -0.5) & (index <= np.array(moved.GetSize()) - 0.5)).all(axis=1)
    assert f"covers only {100 * inside.mean():.1f} % of the reference" in said
    capsys.readouterr()
    assert apply(registration, reference, "image", shifted(image, tmp_path / "same.nrrd", (0, 0, 0)), output) == 0
    said = capsys.readouterr().err
    assert "covers only" not in said
    assert "85 % of the patient in the given volume lies outside the reference" in said


def test_a_result_of_background_alone_is_said(registration, reference, tmp_path, capsys):
    grid = empty_grid("LPS", extent_mm=(120.0, 110.0, 120.0))
    points = points_of(grid)
    hot = on_grid((np.linalg.norm(points - [52.0, 46.0, 52.0], axis=1) < 6.0).astype(np.float32), grid)
    sitk.WriteImage(hot, str(tmp_path / "pet.nrrd"))
    assert apply(registration, reference, "image", tmp_path / "pet.nrrd", tmp_path / "out.nrrd") == 0
    assert "result is empty" in capsys.readouterr().err


def ball(points, center, radius):
    return np.linalg.norm(points - np.asarray(center), axis=1) < radius


def test_labels_that_are_lost_or_cut_off_are_named(registration, tmp_path, capsys):
    coarse = empty_grid("oblique", extent_mm=(60.0, 60.0, 60.0))
    coarse = sitk.Shrink(coarse, [4, 4, 4])
    sitk.WriteImage(coarse, str(tmp_path / "coarse.nrrd"))
    grid = empty_grid("LPS", extent_mm=(140.0, 200.0, 140.0))
    back = sitk.Euler3DTransform(rigid_transform().GetInverse())
    fixed = through(back, points_of(grid))
    corners = points_of(coarse)
    labels = np.zeros(len(fixed), np.uint16)
    labels[ball(fixed, (5.0, 5.0, 5.0), 14.0)] = 3  # whole
    labels[ball(fixed, (-18.0, 12.0, -10.0), 9.0)] = 7  # whole, with a speck that is lost
    between = (
        corners[np.argsort(np.linalg.norm(corners, axis=1))[0]]
        + (np.array([[4.0, 3.4, 4.8]]) @ np.reshape(coarse.GetDirection(), (3, 3)).T)[0]
    )
    nearest = np.argmin(np.linalg.norm(fixed - between, axis=1))
    labels[nearest] = 9  # between the voxels of the reference
    labels[np.argmin(np.linalg.norm(fixed - np.add(between, (0.0, -22.0, 0.0)), axis=1))] = 7
    labels[ball(fixed, (0.0, 0.0, 46.0), 9.0)] = 11  # across the edge
    labels[ball(fixed, (0.0, -85.0, 0.0), 6.0)] = 12  # outside
    sitk.WriteImage(on_grid(labels, grid), str(tmp_path / "labels.nrrd"))
    output = tmp_path / "output.nrrd"
    assert apply(registration, tmp_path / "coarse.nrrd", "labels", tmp_path / "labels.nrrd", output) == 0
    lost, cut, volumes = capsys.readouterr().err.splitlines()
    assert "label 12 880 and 0 mm³ (-100 %)" in volumes
    assert lost.startswith("Lost")
    assert "label 9" in lost
    assert "1 of the 2 parts of label 7" in lost
    assert cut.startswith("Cut off")
    assert "label 12 (100 % of it)" in cut
    assert "label 11" in cut
    assert "label 3" not in lost + cut
    found = set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(output)))).tolist())
    assert found == {0, 3, 7, 11}


@pytest.mark.parametrize("seed", range(40))
def test_no_label_vanishes_in_silence(registration, tmp_path, capsys, seed):
    """Random structures on random grids: each label is in the result whole, or is named."""
    rng = np.random.default_rng(seed)
    names = sorted(GRIDS)
    source = empty_grid(names[seed % len(names)], extent_mm=(60.0, 60.0, 60.0))
    source = sitk.Shrink(source, rng.integers(1, 3, 3).tolist())
    target = empty_grid(names[rng.integers(len(names))], rng.uniform(-25, 25, 3), rng.uniform(20, 70, 3))
    target = sitk.Shrink(target, rng.integers(1, 5, 3).tolist())
    points = points_of(source)
    labels = np.zeros(len(points), np.uint8)
    for label in range(1, 9):
        labels[ball(points, rng.uniform(-25, 25, 3), rng.uniform(1.2, 8.0))] = label
    given = set(np.unique(labels).tolist()) - {0}
    sitk.WriteImage(on_grid(labels, source), str(tmp_path / "labels.nii.gz"))
    sitk.WriteImage(target, str(tmp_path / "target.nii.gz"))
    output = tmp_path / "output.nii.gz"
    code = apply(registration, tmp_path / "target.nii.gz", "labels", tmp_path / "labels.nii.gz", output)
    said = capsys.readouterr().err
    if code == 2:
        assert "does not overlap with the reference" in said
        return
    found = set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(output)))).tolist()) - {0}
    assert found <= given
    for label in given - found:
        assert f"label {label}," in said + "," or f"label {label};" in said or f"label {label} (" in said


def test_the_largest_of_64_bits_stays_bright():
    values = np.zeros(27, np.int64)
    values[13] = np.iinfo(np.int64).max
    image = on_grid(values, empty_grid()[:3, :3, :3])
    warped = sitk.GetArrayFromImage(warp_image(image, image, sitk.TranslationTransform(3)))
    assert warped.min() == 0 and warped.max() > 0.999 * np.iinfo(np.int64).max


@pytest.mark.parametrize("number", [2**31, 2**53 + 1, 2**63 + 5])
def test_numbers_too_large_for_labels_are_refused(registration, reference, tmp_path, capsys, number):
    labels = np.zeros(27, np.uint64)
    labels[13] = number
    sitk.WriteImage(on_grid(labels, empty_grid()[:3, :3, :3]), str(tmp_path / "labels.nrrd"))
    assert apply(registration, reference, "labels", tmp_path / "labels.nrrd", tmp_path / "out.nrrd") == 2
    assert "too large for labels" in capsys.readouterr().err
    assert not (tmp_path / "out.nrrd").exists()
