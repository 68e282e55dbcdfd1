"""Initial alignment: known motions are found, over differing grids, in the direction fixed to moving."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import (
    GRID_PAIRS,
    assert_readable,
    body_points,
    empty_grid,
    mean_error,
    rigid_motion,
    rigid_transform,
    through,
    volume,
)

from FoundationRegistrationLib.errors import InputError, RegistrationCancelledError
from FoundationRegistrationLib.pipeline.initial_alignment.given_transform import landmark_alignment
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.progress import Progress

AFFINE = sitk.AffineTransform(3)
AFFINE.Rotate(0, 2, 0.1)
AFFINE.Scale((1.08, 0.94, 1.0))
AFFINE.SetTranslation((3.0, -2.0, 4.0))


def align(fixed, moving, kind, cancelled=None, callback=None):
    progress = Progress({"alignment": 1.0}, callback, cancelled)
    progress.start("alignment")
    return initial_alignment(
        prepare(fixed, "mr", "fixed"), prepare(moving, "mr", "moving"), kind, torch.device("cpu"), progress
    )


def far_motion(points):
    return rigid_motion(points) + np.array([310.0, -150.0, 90.0])


@pytest.mark.parametrize(("fixed_grid", "moving_grid"), GRID_PAIRS)
def test_rigid_finds_a_rotation_and_translation(fixed_grid, moving_grid):
    fixed, moving = volume(empty_grid(fixed_grid), rigid_motion), volume(empty_grid(moving_grid, (4, 1, -3)))
    found, messages = align(fixed, moving, "rigid")
    assert messages == []
    assert mean_error(found, rigid_motion, body_points(rigid_motion)) < 1.25  # half a voxel of its 2.5 mm grid


@pytest.mark.parametrize(("fixed_grid", "moving_grid"), GRID_PAIRS[2:5])
def test_affine_finds_a_scaling(fixed_grid, moving_grid):
    def motion(points):
        return through(AFFINE, points)

    fixed, moving = volume(empty_grid(fixed_grid), motion), volume(empty_grid(moving_grid))
    points = body_points(motion)
    rigid_error = mean_error(align(fixed, moving, "rigid")[0], motion, points)
    error = mean_error(align(fixed, moving, "affine")[0], motion, points)
    assert error < 1.25
    assert error < 0.75 * rigid_error


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_volumes_hundreds_of_mm_apart_are_brought_together(kind):
    fixed = volume(empty_grid("RAS"), rigid_motion)
    moving = volume(empty_grid("sagittal", (310, -150, 90)), offset=(310, -150, 90))
    found, _ = align(fixed, moving, kind)
    assert mean_error(found, far_motion, body_points(rigid_motion)) < 1.25


@pytest.mark.parametrize(("fixed_grid", "moving_grid"), GRID_PAIRS)
def test_center_and_moments_are_exact_translations(fixed_grid, moving_grid):
    fixed = volume(empty_grid(fixed_grid, (6, 3, -2)))
    offset = np.array([210.0, -90.0, 55.0])
    moving = volume(empty_grid(moving_grid, offset + np.array([1, -5, 4])), offset=offset)
    center, _ = align(fixed, moving, "center")
    np.testing.assert_allclose(center.TransformPoint((6, 3, -2)), offset + np.array([1, -5, 4]), atol=0.01)
    moments, _ = align(fixed, moving, "moments")
    np.testing.assert_allclose(moments.TransformPoint((0, 0, 0)), offset, atol=1.5)


def test_none_changes_nothing():
    found, _ = align(volume(empty_grid()), volume(empty_grid("oblique")), "none")
    assert found.TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)


def test_a_thin_volume_falls_back_to_the_centres_and_says_so():
    thin = volume(empty_grid())[:, :, 18:20]
    found, messages = align(thin, volume(empty_grid()), "affine")
    assert len(messages) == 1
    assert "thin" in messages[0]
    assert found.TransformPoint((0.0, 0.0, 0.0))[2] == pytest.approx(0.0, abs=8.0)


def test_alignment_is_repeatable():
    fixed, moving = volume(empty_grid("LAS"), rigid_motion), volume(empty_grid("oblique"))
    first, second = (align(fixed, moving, "affine")[0] for _ in range(2))
    assert first.GetParameters() == second.GetParameters()


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_single_request_to_cancel_ends_the_optimisation(kind):
    fixed, moving = volume(empty_grid(), rigid_motion), volume(empty_grid("RAS"))
    asked = [0]

    def count():
        asked[0] += 1
        return False

    align(fixed, moving, kind, count)
    total = asked[0]
    assert total > 10
    for when in (2, total // 2, total):
        asked[0] = 0

        def once(when=when):
            asked[0] += 1
            return asked[0] == when

        with pytest.raises(RegistrationCancelledError):
            align(fixed, moving, kind, once)


def test_reported_progress_never_decreases():
    seen = []
    fixed, moving = volume(empty_grid(), rigid_motion), volume(empty_grid("RAS"))
    align(fixed, moving, "affine", callback=lambda event: seen.append(event.fraction))
    assert len(seen) > 10
    assert np.all(np.diff(seen) >= 0)


def test_landmarks_carry_fixed_points_to_moving_points():
    fixed = np.array([[0.0, 0, 0], [30, 5, 0], [0, 40, 10], [-20, 3, 25]])
    moving = through(rigid_transform(), fixed)
    found = landmark_alignment(fixed, moving)
    np.testing.assert_allclose(through(found, fixed), moving, atol=1e-3)
    elsewhere = np.array([[100.0, -50, 70]])
    np.testing.assert_allclose(through(found, elsewhere), through(rigid_transform(), elsewhere), atol=1e-2)
    np.testing.assert_allclose(through(landmark_alignment(fixed[:3], moving[:3]), fixed[:3]), moving[:3], atol=1e-3)


LINE = np.arange(4.0)[:, None] * [1.0, 2.0, 3.0]
TRIANGLE = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        (TRIANGLE[:2], TRIANGLE[:2]),
        (TRIANGLE, TRIANGLE[:2]),
        (LINE, LINE),
        (TRIANGLE, LINE[:3]),
        (np.zeros((3, 3)), TRIANGLE),
    ],
)
def test_landmarks_that_fix_no_rotation_are_refused(fixed, moving):
    with pytest.raises(InputError) as error:
        landmark_alignment(fixed, moving)
    assert_readable(error)
