"""Far starts: shifts, turns, partial fields of view and another contrast, over differing grids."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import GRID_PAIRS, anatomy, body_points, empty_grid, mean_error, on_grid, points_of, through, volume

from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.progress import Progress

FAR = (-50.0, 48.0, 40.0)  # 80 mm
WIDE = (100.0, 100.0, 100.0)


def align(fixed, moving, moving_modality="mr"):
    sides = prepare(fixed, "mr", "fixed"), prepare(moving, moving_modality, "moving")
    return initial_alignment(*sides, "rigid", torch.device("cpu"), Progress({}))


def turn(axis, degrees=30.0, shift=(0.0, 0.0, 0.0)):
    transform = sitk.VersorRigid3DTransform(np.eye(3)[axis].tolist(), np.deg2rad(degrees))
    transform.SetTranslation(shift)
    return lambda points: through(transform, points)


@pytest.mark.parametrize(
    ("axis", "degrees", "grids"), list(zip(range(3), (-30.0, 30.0, -30.0), GRID_PAIRS[2:5], strict=True))
)
def test_a_turn_of_30_degrees_is_found_from_80_mm_away(axis, degrees, grids):
    motion = turn(axis, degrees, FAR)
    inverse = turn(axis, -degrees)
    centre = inverse(-np.array([FAR]))[0]  # where the body lies in fixed space
    fixed = volume(empty_grid(grids[0], centre, WIDE), motion)
    found, messages = align(fixed, volume(empty_grid(grids[1], extent_mm=WIDE)))
    assert messages == []
    assert mean_error(found, motion, body_points() + centre) < 1.25


@pytest.mark.parametrize("axis", range(3))
def test_a_moving_volume_that_shows_half_of_the_body_is_placed(axis):
    half = np.array(WIDE)
    half[axis] = 42.0
    centre = np.zeros(3)
    centre[axis] = 20.0
    motion = turn((axis + 1) % 3, 15.0, (6.0, -4.0, 5.0))
    fixed = volume(empty_grid("oblique", extent_mm=WIDE), motion)
    found, _ = align(fixed, volume(empty_grid("RAS", centre, half.tolist())))
    assert mean_error(found, motion, body_points(motion)) < 2.5


def test_inverted_contrast_is_aligned_from_a_turned_start():
    motion = turn(2)
    fixed = volume(empty_grid("LAS", extent_mm=WIDE), motion)
    grid = empty_grid("sagittal", extent_mm=WIDE)
    values = anatomy(points_of(grid))
    inverted = np.where(values > 20.0, 1000.0 - values, 0.0)
    found, _ = align(fixed, on_grid(inverted.astype(np.float32), grid))
    assert mean_error(found, motion, body_points(motion)) < 2.5


def test_a_body_that_is_there_twice_makes_the_start_doubtful():
    apart = 66.0
    grid = empty_grid("LPS", (apart / 2, 0.0, 0.0), (74.0 + apart, 66.0, 80.0))
    points = points_of(grid)
    twice = np.maximum(anatomy(points), anatomy(points - [apart, 0.0, 0.0]))
    fixed = volume(empty_grid("RAS", extent_mm=(62.0, 60.0, 74.0)))
    _, messages = align(fixed, on_grid(twice.astype(np.float32), grid))
    assert any("two places" in message for message in messages)


def test_a_supine_ct_is_found_on_a_prone_mr_with_another_field_of_view():
    case = make_phantom("pet-ct-to-mri", 108, spacing_mm=6.0)
    found, _ = align(case.fixed, case.moving, "ct")
    distances = np.linalg.norm(through(found, case.fixed_landmarks) - case.moving_landmarks, axis=1)
    assert distances.mean() < 40.0
