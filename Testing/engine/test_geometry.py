"""Physical space: what is accepted, and where things are, on flipped, oblique, anisotropic and permuted grids."""

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, assert_readable, empty_grid, on_grid, points_of, rigid_transform, through

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.spatial.checks import check_overlap, check_same_grid, check_volume
from FoundationRegistrationLib.spatial.grids import (
    WorkingGrid,
    field_of_view,
    resample_to_grid,
    smoothed_for_spacing,
    working_grid,
)
from FoundationRegistrationLib.spatial.points import foreground_points, physical_points, transform_points

GRADIENT = np.array([1.0, -2.0, 0.5])
every_grid = pytest.mark.parametrize("name", GRIDS)


def ramp(grid):
    return on_grid((points_of(grid) @ GRADIENT + 100.0).astype(np.float32), grid)


def skewed():
    image = ramp(empty_grid())
    image.SetDirection((1, 0.2, 0, 0, 1, 0, 0, 0, 1))
    return image


def filled(value, pixel_type=sitk.sitkFloat32, size=(5, 5, 5)):
    return sitk.Image(size, pixel_type) + value


BAD_VOLUMES = {
    "2D": (sitk.Image([8, 8], sitk.sitkInt16), "2D"),
    "4D": (sitk.Image([4, 4, 4, 3], sitk.sitkInt16), "frame"),
    "vector": (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), "component"),
    "vector of one component": (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 1), "component"),
    "complex": (sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), "magnitude"),
    "constant": (filled(7.0), "empty"),
    "constant int": (filled(7, sitk.sitkInt16), "empty"),
    "all NaN": (filled(float("nan")), "NaN"),
    "constant and NaN": (
        on_grid(np.where(np.arange(27) % 2, np.nan, 3.0), sitk.Image(3, 3, 3, sitk.sitkUInt8)),
        "empty",
    ),
    "skewed axes": (skewed(), "perpendicular"),
    "no voxels": (sitk.Image([0, 0, 0], sitk.sitkInt16), "no voxels"),
}


@pytest.mark.parametrize("name", BAD_VOLUMES)
def test_a_volume_that_cannot_be_used_is_refused_with_the_reason(name):
    image, reason = BAD_VOLUMES[name]
    with pytest.raises(InputError, match=reason) as error:
        check_volume(image, "moving")
    assert "moving" in str(error.value)
    assert_readable(error)


@every_grid
def test_a_sound_volume_is_accepted_on_any_grid(name):
    check_volume(ramp(empty_grid(name)), "fixed")


def test_axes_rounded_in_a_header_are_accepted():
    image = ramp(empty_grid("oblique"))
    image.SetDirection(np.round(image.GetDirection(), 4).tolist())
    check_volume(image, "fixed")


@every_grid
def test_points_agree_with_simpleitk(name):
    image = empty_grid(name, (10, 20, -300))
    indices = np.array([[0, 0, 0], [3.5, 1, 2], [-2, 7.25, 11]])
    expected = [image.TransformContinuousIndexToPhysicalPoint(i) for i in indices.tolist()]
    np.testing.assert_allclose(physical_points(image, indices), expected, atol=1e-9)
    np.testing.assert_allclose(transform_points(rigid_transform(), indices), through(rigid_transform(), indices))
    assert transform_points(rigid_transform(), np.empty((0, 3))).shape == (0, 3)


@every_grid
def test_field_of_view_is_the_outer_surface_of_the_voxels(name):
    image = empty_grid(name, (10, 20, -300))
    corners = field_of_view(image)
    np.testing.assert_allclose(corners.mean(0), points_of(image).mean(0), atol=1e-6)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    edges = np.ptp(corners @ direction, axis=0)
    np.testing.assert_allclose(edges, np.array(image.GetSize()) * image.GetSpacing(), rtol=1e-9)


@every_grid
def test_foreground_points_span_the_mask_in_every_direction(name):
    grid = empty_grid(name, (5, -4, 3))
    points = points_of(grid)
    inside = np.linalg.norm((points - [9, -2, 1]) / [8, 14, 11], axis=1) < 1
    extent = foreground_points(on_grid(inside.astype(np.uint8), grid))
    for axis in np.random.default_rng(0).normal(size=(20, 3)):
        assert np.ptp(extent @ axis) == pytest.approx(np.ptp(points[inside] @ axis))
        assert (extent @ axis).max() == pytest.approx((points[inside] @ axis).max())


def test_overlap_is_judged_after_the_initial_transform_from_fixed_to_moving():
    fixed, moving = empty_grid("oblique"), empty_grid("sagittal", (300, 0, 0))
    there = sitk.TranslationTransform(3, (300, 0, 0))
    check_overlap(fixed, moving, there)
    check_overlap(fixed, empty_grid("RAS", (30, 20, 0)), sitk.TranslationTransform(3))
    for transform in (sitk.TranslationTransform(3), there.GetInverse()):
        with pytest.raises(InputError, match="--initialization center") as error:
            check_overlap(fixed, moving, transform)
        assert_readable(error)
    with pytest.raises(InputError, match="300 mm"):
        check_overlap(fixed, moving, sitk.TranslationTransform(3))


@every_grid
def test_a_mask_must_lie_on_the_grid_of_its_volume(name):
    volume = empty_grid(name)
    check_same_grid(sitk.Cast(volume, sitk.sitkUInt8), volume, "fixed mask", "fixed")
    shifted, spaced, turned = (sitk.Image(volume) for _ in range(3))
    shifted.SetOrigin((np.add(volume.GetOrigin(), (0, 0, 0.5))).tolist())
    spaced.SetSpacing((np.array(volume.GetSpacing()) * [1, 1.02, 1]).tolist())
    turned.SetDirection((np.array(volume.GetDirection()).reshape(3, 3) @ np.diag([-1, 1, -1])).ravel().tolist())
    for other in (shifted, spaced, turned, volume[1:], volume[:, :, :-1]):
        with pytest.raises(InputError, match="fixed mask") as error:
            check_same_grid(other, volume, "fixed mask", "fixed")
        assert_readable(error)


def centres(grid):
    """Positions of the voxel centres of a working grid, (z, y, x, 3)."""
    return points_of(grid.image(np.zeros(grid.shape, np.uint8))).reshape(*grid.shape, 3)


def test_a_pooled_grid_has_its_voxels_in_the_middle_of_the_cells():
    grid = WorkingGrid((5.0, -7.0, 11.0), 1.5, (6, 9, 12))
    pooled = grid.pooled(3)
    assert pooled.shape == (2, 3, 4)
    means = centres(grid).reshape(2, 3, 3, 3, 4, 3, 3).mean((1, 3, 5))
    np.testing.assert_allclose(centres(pooled), means)
    assert WorkingGrid((0, 0, 0), 1.0, (7, 5, 1)).pooled(2).shape == (4, 3, 1)


def test_a_padded_grid_holds_the_grid_in_its_middle():
    grid = WorkingGrid((5.0, -7.0, 11.0), 1.5, (3, 4, 5))
    np.testing.assert_allclose(centres(grid.padded(2))[2:-2, 2:-2, 2:-2], centres(grid))
    assert grid.padded(2).shape == (7, 8, 9)


def test_the_working_grid_holds_the_fixed_anatomy_and_reaches_for_the_moving_one():
    fixed = np.array([[-20.0, -10, 0], [21, 13, 50]])
    moving = np.array([[-30.0, -5, -200], [20, 40, 40]])
    grid = working_grid(fixed, moving, spacing_mm=2, reach_mm=25, margin_voxels=3, multiple=4)
    low, high = centres(grid).min((0, 1, 2)), centres(grid).max((0, 1, 2))
    # Extended to the moving anatomy where it is near, and by no more than the reach where it is far.
    expected_low, expected_high = np.array([-30, -10, -25]) - 6, np.array([21, 38, 50]) + 6
    assert np.all(low <= expected_low + 1)
    assert np.all(high >= expected_high - 1)
    assert np.all(high - low < expected_high - expected_low + 4 * 2)
    assert all(size % 4 == 0 for size in grid.shape)


@every_grid
def test_resampling_a_ramp_onto_the_working_grid_is_exact(name):
    """A linear function stays itself under linear interpolation, so any slip of an axis or of half a voxel shows."""
    source = ramp(empty_grid(name, (3, 2, 1), (110, 110, 110)))
    grid = WorkingGrid((-18.0, -20.0, -16.0), 2.0, (15, 17, 19))
    found = resample_to_grid(source, grid, rigid_transform())
    assert found.shape == grid.shape
    expected = through(rigid_transform(), centres(grid).reshape(-1, 3)) @ GRADIENT + 100.0
    np.testing.assert_allclose(found.ravel(), expected, atol=0.02)


def test_outside_the_volume_intensities_repeat_and_masks_are_zero():
    source = on_grid(np.full(4 * 4 * 4, 5, np.float32), sitk.Image(4, 4, 4, sitk.sitkFloat32))
    grid = WorkingGrid((-5.0, -5.0, -5.0), 1.0, (14, 14, 14))
    identity = sitk.TranslationTransform(3)
    assert np.all(resample_to_grid(source, grid, identity) == 5)
    mask = resample_to_grid(sitk.Cast(source, sitk.sitkUInt8), grid, identity, label=True)
    assert mask.sum() == 5 * 4**3
    assert set(np.unique(mask)) == {0, 5}


def test_detail_finer_than_the_grid_is_removed_and_nothing_else():
    grid = sitk.Image(32, 32, 32, sitk.sitkFloat32)
    noise = on_grid(np.random.default_rng(0).normal(size=32**3).astype(np.float32), grid)
    assert smoothed_for_spacing(noise, 1.0) is noise
    smooth = sitk.GetArrayFromImage(smoothed_for_spacing(noise, 4.0))
    assert smooth.std() < 0.15
    noise.SetSpacing((4.0, 4.0, 1.0))  # only the fine axis is smoothed
    array = sitk.GetArrayFromImage(smoothed_for_spacing(noise, 4.0))
    neighbours = [np.abs(np.diff(array, axis=axis)).mean() / array.std() for axis in range(3)]
    assert neighbours[0] < 0.6 * min(neighbours[1:])
