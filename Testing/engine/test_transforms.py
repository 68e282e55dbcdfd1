"""Displacement fields as transforms: units, axes, border, inversion, files, and what is resampled through them."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import (
    GRIDS,
    body_points,
    empty_grid,
    field_image,
    field_transform,
    initial_transforms,
    on_grid,
    points_of,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib.errors import InputError, OutputError
from FoundationRegistrationLib.io.transforms import read_transform, write_transform
from FoundationRegistrationLib.spatial import inversion
from FoundationRegistrationLib.spatial.decomposition import parts
from FoundationRegistrationLib.spatial.displacement import displacement_image, rounded
from FoundationRegistrationLib.spatial.grids import WorkingGrid
from FoundationRegistrationLib.spatial.inversion import inverse_displacement, invert
from FoundationRegistrationLib.spatial.warping import compose_transform, round_trip_errors, warp_image, warp_labels

CELLS = WorkingGrid((-47.0, -45.0, -49.0), 4.0, (25, 24, 26))
DOMAIN = WorkingGrid((-48.0, -46.0, -50.0), 2.0, (50, 48, 52))
PIXEL_TYPES = [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64]
every_grid = pytest.mark.parametrize("name", GRIDS)


def field_of(motion=smooth_warp, cells=CELLS):
    """`displacement_image` of a motion, given as the registration has it: (3, z, y, x) in cells."""
    points = points_of(cells.image(np.zeros(cells.shape, np.uint8)))
    in_cells = ((motion(points) - points) / cells.spacing).reshape(*cells.shape, 3)[..., ::-1]
    return displacement_image(torch.from_numpy(np.moveaxis(in_cells, -1, 0).astype(np.float32)), cells)


def no_motion(points):
    return points


# ---- the field ----


def test_the_field_is_in_mm_along_lps():
    transform = compose_transform(sitk.TranslationTransform(3), field_of())
    points = body_points()
    error = np.linalg.norm(through(transform, points) - smooth_warp(points), axis=1)
    assert error.max() < 0.1


@pytest.mark.parametrize("size", [0.5, 5.0, 40.0])
def test_the_field_is_zero_at_and_outside_its_border(size):
    field = field_of(lambda points: points + np.array([size, -2 * size, 0.5 * size]))
    array = sitk.GetArrayViewFromImage(field)
    for axis in range(3):
        assert not np.take(array, [0, -1], axis=axis).any()
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    for point in ((500.0, 0, 0), (0, -500.0, 0), field.GetOrigin()):
        assert transform.TransformPoint(point) == point
    np.testing.assert_allclose(
        transform.TransformPoint((1.0, 2.0, 3.0)), (1 + size, 2 - 2 * size, 3 + 0.5 * size), rtol=1e-5
    )


@pytest.mark.parametrize("size", [3.0, 15.0])
def test_the_fade_to_zero_does_not_fold(size):
    field = field_of(lambda points: points + np.array([size, -size, size]))
    assert sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).min() > 0.1


def test_the_deformable_part_comes_first():
    """transform(x) = initial(x + u(x)); the other order differs by millimetres."""
    transform = compose_transform(rigid_transform(), field_of())
    points = body_points()
    np.testing.assert_allclose(through(transform, points), through(rigid_transform(), smooth_warp(points)), atol=0.1)


def test_a_composite_is_flat():
    transform = compose_transform(initial_transforms()["nested"], field_of())
    kinds = [transform.GetNthTransform(i).GetName() for i in range(transform.GetNumberOfTransforms())]
    assert len(kinds) == 4
    assert "CompositeTransform" not in kinds


# ---- inversion ----


@pytest.mark.parametrize("kind", initial_transforms())
def test_forward_then_inverse_is_the_identity(kind):
    initial = initial_transforms()[kind]
    field = field_of()
    transform, inverse = compose_transform(initial, field), invert(initial, field, DOMAIN)
    points = body_points()
    moved = through(transform, points)
    errors = round_trip_errors(transform, inverse, points)
    np.testing.assert_allclose(errors, np.linalg.norm(through(inverse, moved) - points, axis=1))
    assert np.linalg.norm(moved - points, axis=1).mean() > 3
    print(f"{kind}: mean {errors.mean():.4f} mm, max {errors.max():.4f} mm")  # noqa: T201 - shown with -rP
    assert errors.mean() < 0.1
    assert errors.max() < 0.5
    there_and_back = round_trip_errors(inverse, transform, moved)
    assert there_and_back.mean() < 0.1


def test_the_inverse_of_a_large_smooth_field():
    def stretch(points):
        return points * [1.3, 0.8, 1.0] + 12.0 * np.sin(points[:, [1, 2, 0]] / 35.0)

    field = field_of(stretch)
    forward = sitk.DisplacementFieldTransform(sitk.Image(field))
    backward = sitk.DisplacementFieldTransform(inverse_displacement(field, torch.device("cpu")))
    errors = round_trip_errors(forward, backward, body_points())
    assert errors.mean() < 0.1


def test_the_inverse_is_more_right_than_one_that_is_exact_at_its_nodes_alone(monkeypatch):
    monkeypatch.setattr(inversion, "_LARGEST_FINE_INVERSE", 0)  # as for a large volume: no finer than the field
    field = field_of(lambda points: points + 4.0 * np.sin(points[:, [1, 2, 0]] / 8.0) - 0.3 * points)
    forward = sitk.DisplacementFieldTransform(sitk.Image(field))

    def mean_error():
        backward = sitk.DisplacementFieldTransform(inverse_displacement(field, torch.device("cpu")))
        return round_trip_errors(forward, backward, body_points()).mean()

    found = mean_error()
    monkeypatch.setattr(inversion, "_right_between_nodes", lambda exact_at_nodes: exact_at_nodes)
    assert found < 0.7 * mean_error()


def test_inverting_a_folded_field_ends_with_finite_values():
    field = field_of(lambda points: points - 1.6 * points * np.exp(-(points**2).sum(1, keepdims=True) / 200.0))
    assert sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).min() < 0
    inverse = sitk.GetArrayFromImage(inverse_displacement(field, torch.device("cpu")))
    assert np.isfinite(inverse).all()
    assert np.abs(inverse).max() < 60


# ---- files ----


@pytest.mark.parametrize("kind", initial_transforms())
def test_a_written_transform_means_the_same_to_simpleitk(kind, tmp_path):
    transform = compose_transform(initial_transforms()[kind], field_of())
    write_transform(transform, tmp_path / "transform.h5")
    points = body_points(step_mm=9.0)
    for read in (sitk.ReadTransform(str(tmp_path / "transform.h5")), read_transform(tmp_path / "transform.h5")):
        np.testing.assert_allclose(through(read, points), through(transform, points), atol=1e-6)


def test_a_written_field_is_small_and_nothing_of_it_is_lost(tmp_path):
    """SimpleITK's own file holds each displacement as three doubles, uncompressed."""
    field = rounded(field_of(cells=WorkingGrid((-47.0, -45.0, -49.0), 2.0, (50, 48, 52))))
    written = invert(rigid_transform(), field, DOMAIN), compose_transform(rigid_transform(), field)
    for transform in written:
        write_transform(transform, tmp_path / "small.h5")
        sitk.WriteTransform(transform, str(tmp_path / "large.h5"))
        found, expected = (sitk.ReadTransform(str(tmp_path / name)) for name in ("small.h5", "large.h5"))
        assert (tmp_path / "small.h5").stat().st_size < (tmp_path / "large.h5").stat().st_size / 4
        assert [part.GetName() for part in parts(found)] == [part.GetName() for part in parts(expected)]
        points = body_points(step_mm=9.0)
        np.testing.assert_array_equal(through(found, points), through(expected, points))


def test_a_field_that_single_precision_cannot_hold_is_written_as_it_is(tmp_path):
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field_image(), sitk.sitkVectorFloat64) + 1e-7 / 3)
    write_transform(transform, tmp_path / "field.h5")
    found = sitk.ReadTransform(str(tmp_path / "field.h5"))
    assert found.GetName() == "DisplacementFieldTransform"
    assert found.GetParameters() == transform.GetParameters()


def test_rounding_a_field_moves_nothing_by_a_hundredth_of_a_millimetre():
    field, points = field_of(), body_points(step_mm=5.0)
    before, after = (through(compose_transform(rigid_transform(), each), points) for each in (field, rounded(field)))
    assert 0 < np.abs(before - after).max() < 0.001


@pytest.mark.parametrize("name", ["rigid.tfm", "rigid.txt", "rigid.mat", "rigid.h5"])
def test_linear_transform_files_are_read(name, tmp_path):
    sitk.WriteTransform(rigid_transform(), str(tmp_path / name))
    np.testing.assert_allclose(
        read_transform(tmp_path / name).TransformPoint((9, 8, 7)), rigid_transform().TransformPoint((9, 8, 7))
    )


@pytest.mark.parametrize("name", ["field.nrrd", "field.NII.GZ", "field.mha"])
def test_a_displacement_field_image_is_a_transform(name, tmp_path):
    field = sitk.Cast(field_image(), sitk.sitkVectorFloat32)
    path = tmp_path / name.lower()
    sitk.WriteImage(field, str(path))
    points = body_points(step_mm=9.0)
    expected = through(field_transform(), points)
    np.testing.assert_allclose(through(read_transform(path.rename(tmp_path / name)), points), expected, atol=1e-3)


def test_files_that_hold_no_3d_transform_are_refused(tmp_path):
    (tmp_path / "words.tfm").write_text("not a transform\n")
    (tmp_path / "words.h5").write_text("not a transform\n")
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    sitk.WriteImage(empty_grid(), str(tmp_path / "scalar.nrrd"))
    sitk.WriteImage(sitk.Image([5, 5], sitk.sitkVectorFloat64, 2), str(tmp_path / "flat.mha"))
    for name in ("absent.h5", "words.tfm", "words.h5", "flat.tfm", "scalar.nrrd", "flat.mha"):
        with pytest.raises(InputError, match=name) as error:
            read_transform(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_transform_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="transform"):
        write_transform(rigid_transform(), tmp_path / "no such folder" / "transform.h5")


# ---- images and labels ----


@every_grid
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_warping_shows_the_moving_anatomy_at_the_fixed_points(name, interpolation):
    """Against the analytic truth, so that an axis, a direction or a second resampling would show."""
    transform = compose_transform(rigid_transform(), field_of())
    reference = empty_grid(name)
    warped = warp_image(volume(empty_grid("LPS", (4, -1, 2))), reference, transform, interpolation)
    truth = sitk.GetArrayFromImage(volume(reference, lambda p: through(rigid_transform(), smooth_warp(p))))
    error = np.abs(sitk.GetArrayFromImage(warped) - truth)[truth > 20].mean()
    assert warped.GetSize() == reference.GetSize()
    assert error < (25 if interpolation == "linear" else 15)


@pytest.mark.parametrize("pixel_type", PIXEL_TYPES)
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_warping_keeps_the_pixel_type_and_the_range(pixel_type, interpolation):
    rng = np.random.default_rng(0)
    checks = on_grid(np.where(rng.random((12, 12, 12)) > 0.5, 200, 30), sitk.Image(12, 12, 12, sitk.sitkUInt8))
    moving = sitk.Cast(checks, pixel_type)
    shift = sitk.TranslationTransform(3, (0.4, 0.3, -0.2))
    warped = warp_image(moving, moving, shift, interpolation)
    assert warped.GetPixelID() == pixel_type
    values = sitk.GetArrayFromImage(warped)
    assert values.min() >= 30
    assert values.max() <= 200
    exact = sitk.GetArrayFromImage(warp_image(sitk.Cast(checks, sitk.sitkFloat64), moving, shift, interpolation))
    rounding = 0.5 if pixel_type not in (sitk.sitkFloat32, sitk.sitkFloat64) else 0.0
    assert np.abs(values - exact).max() <= rounding + 1e-3


@pytest.mark.parametrize("pixel_type", [sitk.sitkInt32, sitk.sitkUInt32, sitk.sitkFloat64])
def test_warping_keeps_the_precision_of_large_values(pixel_type):
    """Float32 holds whole numbers up to 2^24 only."""
    values = np.arange(10**3).reshape(10, 10, 10) + 2_000_000_000
    moving = sitk.Cast(sitk.GetImageFromArray(values.astype(np.float64)), pixel_type)
    warped = sitk.GetArrayFromImage(warp_image(moving, moving, sitk.TranslationTransform(3)))
    np.testing.assert_array_equal(warped.astype(np.int64), values)


def test_outside_and_voxels_that_are_not_finite_take_the_least_value():
    values = np.full((6, 6, 6), 50.0, np.float32)
    values[0, 0, 0] = -1000.0
    values[3, 3, 3] = np.nan
    moving = sitk.GetImageFromArray(values)
    warped = sitk.GetArrayFromImage(warp_image(moving, moving, sitk.TranslationTransform(3, (3.0, 0, 0))))
    assert np.isfinite(warped).all()
    assert np.all(warped[:, :, 3:] == -1000)
    assert warped[3, 3, 0] == -1000


def sphere_labels(grid, motion=no_motion, pixel_type=np.uint8):
    points = motion(points_of(grid))
    labels = np.zeros(len(points), pixel_type)
    labels[np.linalg.norm(points - [4, -3, 2], axis=1) < 15] = 7
    labels[np.linalg.norm(points - [4, -3, 12], axis=1) < 7] = 200
    return on_grid(labels, grid)


@every_grid
def test_warped_labels_are_smooth_and_none_is_new(name):
    def motion(points):
        return through(rigid_transform(), smooth_warp(points))

    def dice(found):
        values = sitk.GetArrayFromImage(found)
        return [
            2 * ((values == k) & (truth == k)).sum() / ((values == k).sum() + (truth == k).sum()) for k in (7, 200)
        ]

    transform = compose_transform(rigid_transform(), field_of())
    reference = empty_grid(name)
    labels = sphere_labels(empty_grid("anisotropic"))
    truth = sitk.GetArrayFromImage(sphere_labels(reference, motion))
    warped = warp_labels(labels, reference, transform)
    nearest = sitk.Resample(labels, reference, transform, sitk.sitkNearestNeighbor, 0)
    assert warped.GetPixelID() == labels.GetPixelID()
    assert set(np.unique(sitk.GetArrayFromImage(warped))) == {0, 7, 200}
    assert np.all(np.array(dice(warped)) >= np.array(dice(nearest)))
    assert min(dice(warped)) > 0.85


@pytest.mark.parametrize("pixel_type", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_labels_keep_their_pixel_type(pixel_type):
    labels = sphere_labels(empty_grid(), pixel_type=pixel_type)
    same = warp_labels(labels, labels, sitk.TranslationTransform(3))
    assert same.GetPixelID() == labels.GetPixelID()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(same), sitk.GetArrayFromImage(labels))
