"""Voxels that nothing is known of, NaN or padding, and intensities of scanners that look like another modality."""

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import (
    anatomy,
    assert_readable,
    body_depth,
    body_points,
    empty_grid,
    mean_error,
    on_grid,
    points_of,
    smooth_warp,
    volume,
)

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.pipeline.preprocessing.modality import guess_modality
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare

SETTINGS = Settings(
    encoder="mind",
    device="cpu",
    working_spacing_mm=2.0,
    grid_spacing=4,
    initialization="none",
    iterations=30,
    feature_cache_gb=0.0,
)


def array_of(image):
    return sitk.GetArrayFromImage(image)


def hounsfield(points, seed=0, noise=10.0):
    """A body of fat and muscle with a cavity, in air."""
    tissue = 40.0 + 0.3 * (anatomy(points) - 400.0)
    cavity = np.linalg.norm((points - [0, 2, 3]) / [9, 8, 10], axis=1) < 1
    values = np.where((body_depth(points) > 0) & ~cavity, tissue, -1000.0)
    return (values + np.random.default_rng(seed).normal(0.0, noise, len(values))).clip(-1024)


def outside_the_circle(points, radius=34.0):
    """What a scanner does not see: the corners around its round field of view, which cuts the body a little."""
    return np.hypot(points[:, 0], points[:, 1]) > radius


def ct(grid, padding, motion=None, seed=0):
    points = points_of(grid)
    values = hounsfield(points if motion is None else motion(points), seed)
    return on_grid(np.where(outside_the_circle(points), padding, values).astype(np.float32), grid)


# ---- what modality it is ----


@pytest.mark.parametrize("seed", range(40))
def test_ct_is_ct_whatever_pads_it(seed):
    generator = np.random.default_rng(seed)
    grid = empty_grid(["LPS", "RAS", "oblique", "sagittal"][seed % 4])
    points = points_of(grid)
    values = hounsfield(points, seed, generator.uniform(0.0, 60.0))
    padding = generator.choice([-8192, -32768, -3024, -2000, -2048, -1024, np.nan])
    values[outside_the_circle(points, generator.uniform(28.0, 60.0))] = padding
    if generator.random() < 0.3:
        values = np.maximum(values, -1000.0)
    image = on_grid(values.astype(np.float32), grid)
    assert guess_modality(image) == "ct"
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.1, 0.2, 0.3)
    resampled = sitk.Resample(image, image, turn, sitk.sitkLinear, float(padding))
    assert guess_modality(resampled) == "ct"


@pytest.mark.parametrize("seed", range(40))
def test_signed_mr_is_mr(seed):
    generator = np.random.default_rng(100 + seed)
    grid = empty_grid("LAS")
    points = points_of(grid)
    inside = body_depth(points) > 0
    signal = (anatomy(points) - 400.0) / 150.0
    largest = generator.choice([300.0, 900.0, 1500.0, 4000.0])
    noise = generator.normal(0.0, 1.0, len(points))
    kinds = (
        np.where(inside, 0.5 * signal, 0.05 * noise),  # inversion recovery with its sign
        np.where(inside, np.tanh(signal), generator.uniform(-1.0, 1.0, len(points))),  # phase
        np.where(inside, 0.1 * signal + 0.05 * noise, 0.02 * noise),  # the difference of two dates
    )
    values = (largest * kinds[seed % 3]).clip(-4096, 4095)
    assert guess_modality(on_grid(np.rint(values).astype(np.int16), grid)) == "mr"


def test_a_ct_without_air_is_asked_about():
    grid = empty_grid("LPS", extent_mm=(24.0, 24.0, 24.0))
    image = on_grid(np.rint(20.0 + 0.7 * (anatomy(points_of(grid)) - 400.0)).astype(np.int16), grid)
    prepared = prepare(image, "auto", "moving")
    assert prepared.modality == "mr"
    assert "--moving-modality ct" in prepared.messages[0]
    assert prepare(image, "ct", "moving").messages == ()
    assert prepare(volume(empty_grid()), "auto", "fixed").messages == ()


# ---- what is not known ----


@pytest.mark.parametrize("padding", [-32768.0, np.nan])
def test_padding_is_unknown_and_makes_no_edge(padding):
    grid = empty_grid("oblique")
    points = points_of(grid)
    unknown = outside_the_circle(points, 15.0)  # through the body
    whole = prepare(on_grid(hounsfield(points).astype(np.float32), grid), "ct", "fixed")
    values = np.where(unknown, padding, hounsfield(points)).astype(np.float32)
    prepared = prepare(on_grid(values, grid), "auto", "fixed")
    assert prepared.modality == "ct"
    np.testing.assert_array_equal(array_of(prepared.known).ravel() == 0, unknown)
    known = ~unknown
    np.testing.assert_array_equal(array_of(prepared.image).ravel()[known], array_of(whole.image).ravel()[known])
    # Beyond the circle the body goes on as it was at the circle: no step to air just outside it.
    rim = (np.hypot(points[:, 0], points[:, 1]) < 17.0) & unknown & (body_depth(points) > 5)
    assert np.abs(array_of(prepared.image).ravel()[rim] - array_of(whole.image).ravel()[rim]).mean() < 0.15
    foreground = sitk.Resample(prepared.foreground, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    far = np.hypot(points[:, 0], points[:, 1]) > 19.0
    assert not array_of(foreground).ravel()[far].any()


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("padding", [-8192.0, np.nan])
def test_padding_changes_little_of_a_ct_registration(padding, side):
    points = body_points(smooth_warp)
    points = points[~outside_the_circle(points, 24.0) & ~outside_the_circle(smooth_warp(points), 24.0)]
    grids = empty_grid("oblique"), empty_grid("LPS", (3, -2, 4))
    errors = []
    for value in (-1000.0, padding):
        pads = (value, -1000.0) if side == "fixed" else (-1000.0, value)
        fixed, moving = ct(grids[0], pads[0], smooth_warp), ct(grids[1], pads[1], seed=1)
        result = register(fixed, moving, SETTINGS)
        assert result.record[side]["modality"] == "ct"
        errors.append(mean_error(result.transform, smooth_warp, points))
    assert errors[1] < max(1.1 * errors[0], errors[0] + 0.1)
    assert errors[1] < 1.0


def test_a_hole_of_nan_in_mr_moves_nothing_around_it():
    fixed, moving = volume(empty_grid("LAS"), smooth_warp), volume(empty_grid("oblique"))
    points = points_of(moving)
    hole = np.linalg.norm(points - [5, -4, 6], axis=1) < 7.0
    values = array_of(moving).ravel()
    values[hole] = np.nan
    result = register(fixed, on_grid(values, moving), SETTINGS)
    near = body_points(smooth_warp)
    distance = np.linalg.norm(smooth_warp(near) - [5, -4, 6], axis=1)
    assert mean_error(result.transform, smooth_warp, near[distance > 7.0]) < 1.0
    assert mean_error(result.transform, smooth_warp, near[(distance > 7.0) & (distance < 12.0)]) < 1.2


def test_a_mask_that_selects_only_unknown_voxels_is_refused():
    image = volume(empty_grid())
    values = array_of(image)
    values[:12] = np.nan
    mask = np.zeros(values.shape, np.uint8)
    mask[:10] = 1
    with pytest.raises(InputError, match="no known value") as error:
        prepare(on_grid(values, image), "mr", "fixed", on_grid(mask, image))
    assert_readable(error)


def test_values_that_are_no_hounsfield_units_are_refused_as_ct():
    image = volume(empty_grid()) - 9000.0
    with pytest.raises(InputError, match="CT") as error:
        prepare(image, "ct", "fixed")
    assert_readable(error)
