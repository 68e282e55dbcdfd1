"""The last refinement: finer where intensities agree, without effect where they do not."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from stages import run, stage

from FoundationRegistrationLib.convex_adam import local_correlation
from FoundationRegistrationLib.convex_adam.local_correlation import LocalCorrelation, locally_normalised
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import warp

SHAPE = (36, 40, 32)
INNER = (slice(None), *(slice(5, -5),) * 3)
SETTINGS = Settings()


def texture(seed, sigma=1.5):
    """(z, y, x) in 0..1, smooth over `sigma` voxels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    return torch.from_numpy((noise - noise.min()) / np.ptp(noise)).float()


@pytest.fixture(scope="module")
def truth():
    noise = np.random.default_rng(7).standard_normal((3, *SHAPE))
    field = ndimage.gaussian_filter(noise, (0, 6, 6, 6))
    return torch.from_numpy(1.2 * field / field.std()).float()


def refined(fixed, moving, start, weight=None, progress=None, rounds=SETTINGS.correlation_rounds):
    progress = progress or Progress({"local correlation": 1.0})
    progress.start("local correlation")
    settings = dataclasses.replace(SETTINGS, correlation_rounds=rounds)
    return stage(LocalCorrelation, settings).refined(fixed, moving, start, weight, progress)


def error(found, truth):
    return float((found - truth).norm(dim=0)[INNER[1:]].mean())


def test_it_brings_the_last_millimetre(truth):
    moving = texture(1)
    fixed = warp(moving[None], truth)[0]
    start = 0.6 * truth
    assert error(refined(fixed, moving, start), truth) < 0.4 * error(start, truth)


def test_several_rounds_go_further_than_one_and_progress_grows_through_them_all(truth):
    moving = texture(1)
    fixed = warp(moving[None], truth)[0]
    start = torch.zeros_like(truth)
    events = []
    several = refined(fixed, moving, start, progress=Progress({"local correlation": 1.0}, events.append))
    assert error(several, truth) < 0.6 * error(refined(fixed, moving, start, rounds=1), truth)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert 0.6 < fractions[-1] <= 1.0


def test_it_does_not_care_for_brightness_contrast_or_a_shading(truth):
    moving = texture(1)
    fixed = warp(moving[None], truth)[0]
    shading = torch.linspace(0.6, 1.4, SHAPE[2])
    start = 0.6 * truth
    assert error(refined(0.1 + 0.5 * fixed * shading, moving, start), truth) < 0.4 * error(start, truth)


def test_volumes_that_have_little_in_common_leave_the_field_as_it_is(truth):
    start = 0.6 * truth
    inverted = 1.0 - warp(texture(1)[None], truth)[0]
    for fixed in (texture(2), inverted):
        assert torch.equal(refined(fixed, texture(1), start), start)


@pytest.mark.parametrize(("rounds", "share"), [(1, 0.3), (SETTINGS.correlation_rounds, 0.5)])
def test_where_one_volume_shows_something_else_the_field_moves_little(truth, monkeypatch, rounds, share):
    start = 0.6 * truth
    moving = texture(1)
    fixed = warp(moving[None], truth)[0]
    fixed[:, :, 20:] = texture(2)[:, :, 20:]

    def moved():
        return float((refined(fixed, moving, start, rounds=rounds) - start)[..., 25:-4].norm(dim=0).mean())

    careful = moved()
    monkeypatch.setattr(local_correlation, "reliability", lambda fixed, *_: torch.ones_like(fixed[0]))
    assert careful < share * moved()


def test_what_counts_nothing_pulls_nothing(truth):
    moving = texture(1)
    start = 0.6 * truth
    unchanged = refined(warp(moving[None], truth)[0], moving, start, torch.zeros(SHAPE))
    torch.testing.assert_close(unchanged, start)


def test_flat_places_are_not_blown_up_to_noise():
    flat = 0.5 + 1e-4 * texture(3)
    assert locally_normalised(flat, 2).abs().max() < 0.1
    assert locally_normalised(texture(3), 2).std() > 0.5


def test_cells_of_2_mm_are_fine_enough_and_larger_ones_are_not():
    assert LocalCorrelation().intensity_spacing(1000, 1.0, 2) == 2
    assert LocalCorrelation().intensity_spacing(1000, 1.5, 2) == 1


def test_it_ends_convex_adam_on_the_cells_of_the_intensities(truth):
    moving = texture(1)
    fixed = warp(moving[None], truth)[0]
    cells = [torch.nn.functional.avg_pool3d(volume[None], 2) for volume in (fixed, moving)]
    settings = Settings(grid_spacing=4, displacement_half_width=2)
    weight = torch.ones(cells[0].shape[1:])
    found = run(*cells, settings, voxel_mm=2.0, weight=weight, intensities=(fixed, moving))
    assert found.spacing == 1
    assert found.displacement.shape[1:] == SHAPE
    coarse = run(*cells, settings, voxel_mm=2.0, weight=weight)
    assert coarse.spacing == 2
    assert coarse.displacement.shape == (3, *cells[0].shape[1:])
    averages = (cells[0][0], cells[1][0])
    assert run(*cells, settings, voxel_mm=1.0, weight=weight, intensities=averages).spacing == 2
    upsampled = 2.0 * torch.nn.functional.interpolate(coarse.displacement[None], scale_factor=2, mode="trilinear")[0]
    assert error(found.displacement, truth) < 0.6 * error(upsampled, truth)


def test_it_can_be_cancelled(truth):
    progress = Progress({"local correlation": 1.0}, cancelled=lambda: True)
    with pytest.raises(RegistrationCancelledError):
        refined(texture(2), texture(1), truth, progress=progress)
