"""What noise alone makes of a displacement is taken back; true motion beside it stays."""

import pytest
import torch
from fields import QUIET, random_smooth
from stages import stage

from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.motion_floor import MotionFloor
from FoundationRegistrationLib.convex_adam.stages import Found, Volumes
from FoundationRegistrationLib.settings import Settings

SHAPE = (24, 40, 32)
NOISE = 0.2  # voxels, root mean square


def noise(seed, size=NOISE):
    """(3, z, y, x) in voxels, of a given root mean square length."""
    field = random_smooth(seed, SHAPE, 1.5, channels=3)
    return size * field / length(field)


def length(field, where=...):
    """Root mean square length."""
    return float(field.square().sum(0)[where].mean().sqrt())


def without_noise(field, floor=1.4 * NOISE, spacing=2, weights=(None, None)):
    """What is left of a displacement (3, z, y, x) in voxels."""
    QUIET.start("test")
    volumes = Volumes(((field[:1], field[:1]),), 1.5, spacing, weights)
    found = Found(field / spacing)
    return spacing * MotionFloor(floor).run(volumes, found, QUIET).displacement


@pytest.mark.parametrize("spacing", [1, 2])
def test_nothing_is_left_of_what_noise_makes(spacing):
    assert length(without_noise(noise(1), spacing=spacing)) < 0.05 * NOISE


def test_motion_several_times_as_large_stays():
    motion = 4.0 * NOISE * torch.ones(3, *SHAPE)
    found = without_noise(motion + noise(2))
    assert length(found - motion) < 1.5 * NOISE


def test_one_side_stays_where_it_was_though_the_other_has_moved():
    motion = torch.zeros(3, *SHAPE)
    motion[1, :, :, 16:] = 10.0 * NOISE
    weight = torch.ones(SHAPE)
    weight[:, :, 14:18] = 0.0
    found = without_noise(motion + noise(3), weights=(weight, None), spacing=1)
    assert length(found[..., :4]) < 0.1 * NOISE
    assert length((found - motion)[..., 28:]) < 1.2 * NOISE


def test_what_the_air_does_decides_nothing():
    field, weight = noise(4), torch.zeros(SHAPE)
    weight[:, :24] = 1.0
    field[:, :, 28:] += 30.0
    assert length(without_noise(field, weights=(weight, None))[:, :, :24]) < 0.05 * NOISE
    assert bool(without_noise(field, weights=(torch.zeros(SHAPE), None)).isfinite().all())


def test_the_preset_for_dynamic_series_ends_with_it_and_others_do_without():
    assert stage(MotionFloor, Settings.from_preset("dce")).floor == 0.3
    assert not any(isinstance(found, MotionFloor) for found in stages_of(Settings()))
