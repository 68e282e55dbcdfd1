"""Intensities and foreground of MR, CT and PET-like volumes."""

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, anatomy, assert_readable, body_depth, empty_grid, on_grid, points_of, volume

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.pipeline.preprocessing.modality import guess_modality
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.spatial.warping import finite_float

every_grid = pytest.mark.parametrize("name", GRIDS)
RNG_SEED = 3


def array_of(image):
    return sitk.GetArrayFromImage(image)


def mr(name="LPS", noise=15.0):
    image = volume(empty_grid(name))
    values = array_of(image).ravel()
    return on_grid(np.abs(values + np.random.default_rng(RNG_SEED).normal(0, noise, values.size)), image)


def ct(name="LPS"):
    """Soft tissue with an air-filled cavity, in air, in Hounsfield units."""
    grid = empty_grid(name)
    points = points_of(grid)
    tissue = 40.0 + 0.2 * (anatomy(points) - 400.0)
    cavity = np.linalg.norm((points - [0, 2, 3]) / [9, 8, 10], axis=1) < 1
    values = np.where((body_depth(points) > 0) & ~cavity, tissue, -1000.0)
    noise = np.random.default_rng(RNG_SEED).normal(0, 10, values.size)
    return on_grid((values + noise).clip(-1024).astype(np.int16), grid), cavity


def pet(name="LPS"):
    """Mild uptake all over the body and one hot lesion, in SUV."""
    grid = empty_grid(name)
    points = points_of(grid)
    uptake = (0.5 + 0.0005 * anatomy(points)) / (1 + np.exp(-body_depth(points)))
    return on_grid(uptake + 14.0 * np.exp(-((points - [10, 5, 0]) ** 2).sum(1) / 50.0), grid)


def overlap(mask, grid, truth):
    found = array_of(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)).ravel() > 0
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@every_grid
def test_noise_in_air_is_no_foreground(name):
    """A magnitude image whose coil sees one side four times better; its noise is a Rician one."""
    image = volume(empty_grid(name))
    points = points_of(image)
    signal = array_of(image).ravel() * np.exp(-np.log(4.0) * (points[:, 1] + 60.0) / 120.0)
    real, imaginary = np.random.default_rng(RNG_SEED).normal(0.0, 40.0, (2, signal.size))
    prepared = prepare(on_grid(np.hypot(signal + real, imaginary), image), "mr", "fixed")
    assert overlap(prepared.foreground, image, body_depth(points) > 0) > 0.9


def test_dark_tissue_without_air_is_foreground():
    """A volume within the body: its darkest tissue is not air."""
    grid = empty_grid("oblique")
    points = points_of(grid)
    values = np.where(np.sin(points / 9.0).sum(1) > 1.2, 700.0, 300.0)
    values += np.random.default_rng(RNG_SEED).normal(0.0, 70.0, values.size)
    values[:20] = 0.0
    foreground = prepare(on_grid(values, grid), "mr", "fixed").foreground
    assert array_of(foreground).mean() > 0.95


@every_grid
def test_the_foreground_is_the_body_on_any_grid(name):
    image = mr(name)
    prepared = prepare(image, "auto", "fixed")
    assert prepared.modality == "mr"
    assert overlap(prepared.foreground, image, body_depth(points_of(image)) > 0) > 0.9
    values = array_of(prepared.image)
    assert prepared.image.GetSize() == image.GetSize()
    assert prepared.image.GetDirection() == image.GetDirection()
    assert prepared.image.GetPixelID() == sitk.sitkFloat32
    assert values.min() == 0
    assert values.max() == 1


@every_grid
def test_ct_foreground_holds_the_cavity(name):
    image, cavity = ct(name)
    prepared = prepare(image, "auto", "fixed")
    assert prepared.modality == "ct"
    body = body_depth(points_of(image)) > 0
    assert overlap(prepared.foreground, image, body) > 0.9
    found = array_of(sitk.Resample(prepared.foreground, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    assert found.ravel()[cavity].mean() > 0.95


def test_ct_is_windowed_the_same_whatever_is_in_view():
    image, _ = ct()
    whole = array_of(prepare(image, "ct", "fixed").image)
    part = array_of(prepare(image[8:-8, 8:-8, 8:-8], "ct", "fixed").image)
    np.testing.assert_array_equal(whole[8:-8, 8:-8, 8:-8], part)
    expected = (array_of(image).astype(float) + 200) / 450
    np.testing.assert_allclose(whole, expected.clip(0, 1), atol=1e-6)


def test_pet_keeps_mild_uptake_visible_and_knows_activity_from_suv():
    image = pet()
    prepared = prepare(image, "auto", "moving")
    assert prepared.modality == "pet"
    values = array_of(prepared.image)
    assert values.max() == 1
    assert np.median(values[array_of(image) > 0.5]) > 0.2
    activity = prepare(image * 25000.0, "pet", "moving")
    np.testing.assert_allclose(array_of(activity.image), values, atol=0.05)


@pytest.mark.parametrize("wanted", ["mr", "ct", "pet"])
@pytest.mark.parametrize("make", [mr, lambda: ct()[0], pet])
def test_the_guess_can_be_overridden(make, wanted):
    assert prepare(make(), wanted, "fixed").modality == wanted


def test_unsigned_and_dark_volumes_are_taken_as_mr():
    assert guess_modality(mr()) == "mr"
    assert guess_modality(sitk.Cast(mr(), sitk.sitkUInt16)) == "mr"
    assert guess_modality(mr() * 1e6) == "mr"
    assert guess_modality(mr() - 300.0) == "mr"


def test_mr_intensities_do_not_depend_on_scale_or_offset():
    image = mr()
    values = array_of(prepare(image, "mr", "fixed").image)
    for changed in (image * 1e4, image * 1e-6, image + 1000.0, image * 3 - 50):
        np.testing.assert_allclose(array_of(prepare(changed, "mr", "fixed").image), values, atol=2e-3)


@pytest.mark.parametrize("pixel", [np.uint32, np.int64, np.float64])
def test_mr_far_from_zero_keeps_its_contrast(pixel):
    """Whole numbers just below the largest of 32 bits; float32 would make them equal."""
    image = mr()
    far = on_grid((2.0**32 - 1000.0 + np.rint(array_of(image).ravel())).astype(pixel), image)
    values = array_of(prepare(far, "auto", "fixed").image)
    np.testing.assert_allclose(values, array_of(prepare(image, "mr", "fixed").image), atol=2e-3)


@pytest.mark.parametrize("offset", [1.0, 1e8, -1e8])
def test_few_different_values_far_from_zero_are_no_traceback(offset):
    body = (array_of(mr()) > 300.0).astype(np.float32)
    values = np.where(body, np.nextafter(np.float32(offset), np.float32(np.inf)), np.float32(offset))
    prepared = prepare(on_grid(values.ravel(), empty_grid("LPS")), "mr", "fixed")
    np.testing.assert_array_equal(array_of(prepared.image) > 0.5, body > 0)


@pytest.mark.parametrize("padding", [np.finfo(np.float32).min, np.finfo(np.float32).max, -1e30])
def test_the_largest_numbers_are_padding_like_nan(padding):
    image, values = mr(), array_of(mr()).ravel().astype(np.float32)
    outside = np.abs(points_of(image)[:, 0]) > 25.0
    padded, unknown = (
        prepare(on_grid(np.where(outside, fill, values).astype(np.float32), image), "auto", "fixed")
        for fill in (padding, np.nan)
    )
    np.testing.assert_array_equal(array_of(padded.known).ravel() == 0, outside)
    np.testing.assert_array_equal(array_of(padded.image), array_of(unknown.image))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_count_as_the_least_value(bad):
    values = np.linspace(-3, 9, 27, dtype=np.float32)
    values[[4, 20]] = bad
    image = on_grid(values, empty_grid()[:3, :3, :3])
    found = finite_float(image)
    expected = np.where(np.isfinite(values), values, -3)
    np.testing.assert_array_equal(array_of(found).ravel(), expected)
    assert found.GetOrigin() == image.GetOrigin()


def test_specks_in_the_air_are_not_foreground():
    image = mr(noise=0.0)
    values = array_of(image)
    values[2:4, 2:4, 2:4] = 600.0
    speck = np.zeros(values.shape, bool)
    speck[2:4, 2:4, 2:4] = True
    foreground = prepare(on_grid(values, image), "mr", "fixed").foreground
    found = array_of(sitk.Resample(foreground, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0
    assert found.any()
    assert not (found & speck).any()


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_has_a_foreground(axis):
    index = [slice(None)] * 3
    index[axis] = slice(20, 21)
    image = mr()[tuple(index)]
    prepared = prepare(image, "auto", "fixed")
    truth = body_depth(points_of(image)) > 0
    assert overlap(prepared.foreground, image, truth) > 0.85


@every_grid
def test_a_mask_takes_the_place_of_the_foreground(name):
    image = mr(name)
    chosen = np.linalg.norm(points_of(image) - [4, -3, 5], axis=1) < 12
    mask = on_grid(np.where(chosen, 7, 0).astype(np.int16), image)
    prepared = prepare(image, "mr", "fixed", mask)
    np.testing.assert_array_equal(array_of(prepared.foreground).ravel(), chosen)
    inside = array_of(image).ravel()[chosen]
    low, high = np.percentile(inside, (0.5, 99.5))
    expected = ((array_of(image) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(array_of(prepared.image), expected, atol=1e-4)


def test_bad_masks_are_refused():
    image = mr()
    uniform = array_of(image)
    uniform[:6] = 100.0
    first_slices = np.zeros_like(uniform)
    first_slices[:5] = 1
    for given, mask, reason in (
        (image, image[2:] > 0, "grid"),
        (image, on_grid(np.zeros(uniform.shape, np.uint8), image), "empty"),
        (on_grid(uniform, image), on_grid(first_slices.astype(np.uint8), image), "constant"),
        (image, on_grid(first_slices.astype(np.int16) - 1, image), "below 0"),
        (image, sitk.Cast(image * 1000.0, sitk.sitkInt32), "like an intensity image"),
        (image, on_grid(0.3 * first_slices.astype(np.float32), image), "fractions"),
    ):
        with pytest.raises(InputError, match=reason) as error:
            prepare(given, "mr", "moving", mask)
        assert "moving" in str(error.value)
        assert_readable(error)
