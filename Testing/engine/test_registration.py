"""Whole registrations against exact ground truth, over grids that share nothing, and what a user relies on."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from small_runs import HALF_VOXEL_MM, SPACING_MM, array_of, quick, settings, small_pair
from volumes import (
    GRID_PAIRS,
    assert_readable,
    body_depth,
    body_points,
    empty_grid,
    initial_transforms,
    mean_error,
    on_grid,
    points_of,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

import FoundationRegistrationLib
from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError, RegistrationCancelledError, SettingsError
from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.spatial.warping import displacement_on_grid_of, round_trip_errors


def no_motion(points):
    return points


@pytest.fixture(scope="module")
def integer_run():
    """Int16 volumes with a given rigid initial transform: fixed, moving, result."""
    fixed = volume(empty_grid("oblique"), lambda points: rigid_motion(smooth_warp(points)))
    moving = sitk.Cast(volume(empty_grid("sagittal", (3, -2, 4))), sitk.sitkInt16)
    return fixed, moving, register(fixed, moving, settings(), initial_transform=rigid_transform())


# ---- accuracy ----


@pytest.mark.parametrize(
    ("grids", "motion", "initialization"),
    [
        *((grids, smooth_warp, "none") for grids in GRID_PAIRS),
        *((grids, no_motion, "none") for grids in GRID_PAIRS[:2]),
        *((grids, rigid_motion, "rigid") for grids in GRID_PAIRS[2:4]),
    ],
)
def test_a_known_motion_is_recovered_to_half_a_voxel(grids, motion, initialization):
    fixed = volume(empty_grid(grids[0]), motion)
    moving = volume(empty_grid(grids[1], (3, -2, 4)))
    result = register(fixed, moving, settings(initialization=initialization))
    points = body_points(motion)
    assert mean_error(result.transform, motion, points) < HALF_VOXEL_MM
    assert round_trip_errors(result.transform, result.inverse, points).mean() < 0.1
    assert result.metrics["jacobian"]["folded_percent"] < 0.1


def test_a_known_warp_after_a_given_initial_transform_is_recovered(integer_run):
    _, _, result = integer_run

    def motion(points):
        return rigid_motion(smooth_warp(points))

    assert mean_error(result.transform, motion, body_points(motion)) < HALF_VOXEL_MM


@pytest.mark.parametrize("kind", ["affine", "field before rigid", "field far away, after a translation", "nested"])
def test_points_return_through_the_inverse_whatever_the_initial_transform(kind):
    initial = initial_transforms()[kind]
    fixed = volume(empty_grid("LAS"), smooth_warp)
    # The moving body lies where the initial transform brings the fixed one, a little off.
    center = np.array(initial.TransformPoint((0.0, 0.0, 0.0)))
    moving = volume(empty_grid("oblique", center), offset=center)
    result = register(fixed, moving, settings(iterations=20, fluid_iterations=10), initial_transform=initial)
    points = body_points(smooth_warp)
    errors = round_trip_errors(result.transform, result.inverse, points)
    print(f"{kind}: mean {errors.mean():.4f} mm, max {errors.max():.4f} mm")  # noqa: T201 - shown with -rP
    assert errors.mean() < 0.1
    assert result.metrics["inverse_error_mm"]["mean"] < 0.1
    assert result.record["initialization"] == "given transform"


@pytest.mark.parametrize("initialization", ["center", "moments", "rigid", "affine"])
def test_volumes_hundreds_of_mm_apart_meet_after_an_initial_alignment(initialization):
    offset = np.array([250.0, -120.0, 400.0])

    def motion(points):
        return points + offset

    fixed = volume(empty_grid("RAS"))
    moving = volume(empty_grid("oblique", offset), offset=offset)
    result = register(fixed, moving, settings(initialization=initialization))
    assert mean_error(result.transform, motion, body_points()) < HALF_VOXEL_MM


def test_volumes_far_apart_without_alignment_are_refused_with_a_way_out():
    moving = volume(empty_grid("oblique", (0, 0, 400)), offset=(0, 0, 400))
    with pytest.raises(InputError, match="center") as error:
        register(volume(empty_grid()), moving, settings())
    assert_readable(error)


# ---- what is returned ----


def test_the_written_transform_alone_reproduces_the_warped_volume(integer_run, tmp_path):
    fixed, moving, result = integer_run
    write_transform(result.transform, tmp_path / "transform.h5")
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    as_float = sitk.Cast(moving, sitk.sitkFloat64)
    expected = array_of(sitk.Resample(as_float, fixed, transform, sitk.sitkLinear, float(array_of(moving).min())))
    found = array_of(result.warped)
    assert found.dtype == np.int16
    assert found.std() > 50
    assert np.abs(found - expected).max() <= 0.5 + 1e-2


def test_the_warped_volume_is_one_resampling_of_the_original(integer_run):
    """From initial and deformation by hand, and against a resampling in two steps, which is more blurred."""
    fixed, moving, result = integer_run
    by_hand = sitk.CompositeTransform(
        [rigid_transform(), sitk.DisplacementFieldTransform(sitk.Image(result.deformation))]
    )
    source = sitk.Cast(moving, sitk.sitkFloat64)
    once = array_of(sitk.Resample(source, fixed, by_hand, sitk.sitkLinear, 0.0))
    assert np.abs(array_of(result.warped) - once).max() <= 0.5 + 1e-2
    halfway = sitk.Resample(source, fixed, rigid_transform(), sitk.sitkLinear, 0.0)
    field = sitk.DisplacementFieldTransform(sitk.Image(result.deformation))
    twice = array_of(sitk.Resample(halfway, fixed, field, sitk.sitkLinear, 0.0))
    assert np.abs(twice - once).max() > 20
    assert result.warped.GetSize() == fixed.GetSize()
    np.testing.assert_allclose(result.warped.GetDirection(), fixed.GetDirection())
    np.testing.assert_allclose(result.warped.GetOrigin(), fixed.GetOrigin())


def test_the_deformation_is_in_lps_mm_and_ends_in_zeros(integer_run):
    _, _, result = integer_run
    field = result.deformation
    assert field.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    for axis in range(3):
        assert not np.take(array_of(field), [0, -1], axis=axis).any()
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    assert transform.TransformPoint((0.0, 900.0, 0.0)) == (0.0, 900.0, 0.0)
    assert mean_error(transform, smooth_warp, body_points(lambda p: rigid_motion(smooth_warp(p)))) < HALF_VOXEL_MM
    assert result.jacobian.GetSize() == field.GetSize()


def swollen(points):
    """Turned, 10 % larger along each axis, and far away."""
    return 1.1 * rigid_motion(points) + np.array([60.0, -20.0, 35.0])


@pytest.mark.parametrize("start", ["given", "found", "a field"])
def test_the_figures_are_of_the_whole_transform(start):
    """A body that is 10 % longer along each axis has 1.331 times the volume, whoever found it out."""
    fixed = volume(empty_grid("oblique"), lambda points: swollen(points) - np.array([60.0, -20.0, 35.0]))
    offset = np.array([60.0, -20.0, 35.0])
    moving = volume(empty_grid("LPS", offset, (84.0, 76.0, 90.0)), offset=offset)
    grow = sitk.AffineTransform(3)
    grow.Scale(1.1)
    grow.SetTranslation(offset.tolist())
    initial = sitk.CompositeTransform([grow, rigid_transform()])
    if start == "a field":
        coarse = sitk.Shrink(empty_grid("LPS", extent_mm=(300.0, 300.0, 300.0)), [4, 4, 4])
        initial = sitk.DisplacementFieldTransform(displacement_on_grid_of(coarse, initial))
    given = {} if start == "found" else {"initial_transform": initial}
    result = register(fixed, moving, quick(initialization="affine"), **given)
    points = body_points(rigid_motion)
    assert mean_error(result.transform, swollen, points) < 2.0
    assert result.metrics["jacobian"]["mean"] == pytest.approx(1.331, rel=0.03)
    assert result.metrics["jacobian"]["folded_percent"] == 0.0
    # The displacement is that of the transform at each voxel, and the map its derivative.
    field, here = result.displacement, [result.displacement.GetSize()[axis] // 2 for axis in range(3)]
    place = np.array(field.TransformIndexToPhysicalPoint(here))
    np.testing.assert_allclose(field[here], np.array(result.transform.TransformPoint(place.tolist())) - place)
    step = result.jacobian.GetSpacing()[0]
    ends = [through(result.transform, place + sign * step * np.eye(3)) for sign in (1.0, -1.0)]
    assert result.jacobian[here] == pytest.approx(np.linalg.det((ends[0] - ends[1]) / (2.0 * step)), rel=1e-4)


def test_the_record_repeats_the_run(integer_run):
    fixed, moving, result = integer_run
    record = json.loads(json.dumps(dict(result.record)))
    assert Settings.from_dict(record["settings"]) == settings().suited_to(fixed.GetSpacing(), moving.GetSpacing())
    matrix = np.array(record["start"]["matrix"])
    start = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
    again = register(fixed, moving, Settings.from_dict(record["settings"]), initial_transform=start)
    points = body_points(rigid_motion)
    np.testing.assert_allclose(through(again.transform, points), through(result.transform, points), atol=1e-6)
    assert again.record["fixed"]["content_sha256"] == record["fixed"]["content_sha256"]
    assert record["versions"]["FoundationRegistration"] == FoundationRegistrationLib.__version__
    assert record["fixed"]["size"] == list(fixed.GetSize())
    assert record["moving"]["spacing"] == list(moving.GetSpacing())
    assert record["moving"]["modality"] == "mr"
    assert "SimpleITK" in record["versions"]
    json.dumps(dict(result.metrics))
    json.dumps(dict(result.timings))


def test_identical_runs_give_identical_displacements():
    first, second = (register(*small_pair(), quick(initialization="affine")) for _ in range(2))
    np.testing.assert_array_equal(array_of(first.displacement), array_of(second.displacement))
    np.testing.assert_array_equal(array_of(first.warped), array_of(second.warped))
    assert array_of(first.displacement).any()


def test_the_inputs_are_left_as_they_were():
    fixed, moving = small_pair()
    before = array_of(fixed).copy(), array_of(moving).copy()
    initial = rigid_transform()
    register(fixed, moving, quick(), initial_transform=initial)
    np.testing.assert_array_equal(array_of(fixed), before[0])
    np.testing.assert_array_equal(array_of(moving), before[1])
    assert initial.GetParameters() == rigid_transform().GetParameters()


def test_bspline_stays_in_the_range_of_the_moving_volume():
    fixed, moving = small_pair()
    values = array_of(register(fixed, moving, quick(interpolation="bspline")).warped)
    linear = array_of(register(fixed, moving, quick()).warped)
    assert values.min() >= array_of(moving).min()
    assert values.max() <= array_of(moving).max()
    assert np.abs(values - linear).max() > 1


def test_masks_say_what_is_matched():
    fixed, moving = small_pair()
    masks = [
        on_grid((np.linalg.norm(points_of(image), axis=1) < 20).astype(np.uint8), image) for image in (fixed, moving)
    ]
    result = register(fixed, moving, settings(), fixed_mask=masks[0], moving_mask=masks[1])
    points = body_points(smooth_warp)
    points = points[np.linalg.norm(points, axis=1) < 14]
    assert mean_error(result.transform, smooth_warp, points) < HALF_VOXEL_MM


def test_modalities_are_guessed_recorded_and_can_be_overridden():
    fixed, moving = small_pair()
    grid = empty_grid("sagittal", (3, -2, 4))
    inside = body_depth(points_of(grid)) > 0
    ct = on_grid(np.where(inside, array_of(moving).ravel() * 0.3 - 80, -1000).astype(np.int16), grid)
    guessed = register(fixed, ct, quick())
    assert (guessed.record["fixed"]["modality"], guessed.record["moving"]["modality"]) == ("mr", "ct")
    told = register(fixed, ct, quick(fixed_modality="pet", moving_modality="mr"))
    assert (told.record["fixed"]["modality"], told.record["moving"]["modality"]) == ("pet", "mr")


# ---- memory, progress, cancelling ----


def test_too_small_a_memory_budget_makes_the_grid_coarser_and_says_so():
    fixed, moving = small_pair()
    result = register(fixed, moving, settings(memory_budget_gb=0.001, grid_spacing=2, iterations=5))
    message, excess = result.messages
    assert "coarser" in message
    assert "more than" in excess  # a megabyte is never enough, and the user is told
    assert "\n" not in message
    assert result.record["working_grid"]["spacing"] > SPACING_MM
    assert f"{result.record['working_grid']['spacing']:.2f} mm" in message
    plenty = register(fixed, moving, quick())
    assert plenty.messages == ()
    assert plenty.record["working_grid"]["spacing"] == 4.0


def test_progress_never_decreases_and_ends_at_one():
    events = []
    register(*small_pair(), settings(initialization="affine"), progress=events.append)
    fractions = [event.fraction for event in events]
    assert len(events) > 30
    assert np.all(np.diff(fractions) >= 0)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert len(dict.fromkeys(event.step for event in events)) >= 6


def test_cancelling_at_any_point_ends_the_run():
    """Also where the answer is True one time only."""
    asked = [0]

    def at(when):
        asked[0] = 0

        def cancelled():
            asked[0] += 1
            return asked[0] == when

        return cancelled

    pair = small_pair()
    register(*pair, quick(initialization="affine"), cancelled=at(0))
    total = asked[0]
    assert total > 20
    for when in sorted({1, 2, 3, total - 1, total, *range(4, total, max(1, total // 8))}):
        with pytest.raises(RegistrationCancelledError):
            register(*pair, quick(initialization="affine"), cancelled=at(when))
        assert asked[0] == when


def test_settings_survive_their_dictionary():
    for preset in ("default", "convexadam", "reference"):
        made = Settings.from_preset(preset, working_spacing_mm=3, iterations=7.0)
        assert Settings.from_dict(json.loads(json.dumps(made.to_dict()))) == made
        assert made.working_spacing_mm == 3.0
        assert type(made.iterations) is int


def test_rigid_registration_does_not_worsen_what_the_alignment_found():
    fixed, moving = volume(empty_grid("LAS"), rigid_motion), volume(empty_grid("RAS"))
    result = register(fixed, moving, settings(initialization="rigid"))
    points = body_points(rigid_motion)
    before = np.linalg.norm(through(result.initial_transform, points) - rigid_motion(points), axis=1).mean()
    assert mean_error(result.transform, rigid_motion, points) < before + 0.25


# ---- two encoders ----


def test_two_encoders_are_named_together_or_apart():
    assert Settings(encoder="sam+mind") == Settings(encoder="sam", detail_encoder="mind")
    assert Settings(encoder="mind+mind").encoders == ("mind",)
    preset = Settings.from_preset("pet-ct-to-mri")
    assert preset.encoders == ("efficientnet-lite0", "mind")
    assert Settings.from_preset("pet-ct-to-mri", encoder="litemedsam").encoders == ("litemedsam", "mind")
    assert Settings.from_dict(preset.to_dict()) == preset


def test_a_second_encoder_refines_what_the_first_found():
    fixed, moving = small_pair()
    progress = []
    steps = {"encoding", "encoding details", "discrete search", "instance optimisation", "shared refinement"}
    points = body_points(smooth_warp)
    of_features = settings(encoder="efficientnet-lite0", slice_gap=3, fluid_iterations=0)
    alone = register(fixed, moving, of_features)
    both = register(fixed, moving, dataclasses.replace(of_features, detail_encoder="mind"), progress=progress.append)
    assert mean_error(both.transform, smooth_warp, points) < 0.8 * mean_error(alone.transform, smooth_warp, points)
    assert steps <= {event.step for event in progress}
    assert [event.fraction for event in progress] == sorted(event.fraction for event in progress)
    assert set(both.record["weights_sha256"]) == {"efficientnet-lite0", "mind"}
    assert both.feature_preview is None, "it is made only on request"
    assert both.record["weights_sha256"]["efficientnet-lite0"] == alone.record["weights_sha256"]["efficientnet-lite0"]


def test_an_unknown_second_encoder_is_refused():
    with pytest.raises(SettingsError, match="telepathy"):
        register(*small_pair(), settings(encoder="mind+telepathy"))
