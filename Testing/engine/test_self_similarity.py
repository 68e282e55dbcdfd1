"""The refinement on single voxels: finer than cells, whatever the contrast, without effect where nothing agrees."""

import pytest
import torch
from fields import CPU, QUIET, random_smooth
from stages import optimised, run, stage

from FoundationRegistrationLib.convex_adam import self_similarity
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.self_similarity import SelfSimilarity
from FoundationRegistrationLib.convex_adam.similarities import SquaredDifference, Term
from FoundationRegistrationLib.encoders.mind import MindEncoder
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.features import pool, voxel_descriptor
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import identity_positions, upsample, warp

SHAPE = (36, 48, 40)
SETTINGS = Settings(adam_grid_spacing=2, regularization=1.0)


def tissue(seed):
    """(z, y, x) in 0..1 with structures of about two voxels."""
    return torch.sigmoid(2.0 * random_smooth(seed, SHAPE, 1.2)[0])


@pytest.fixture(scope="module")
def truth():
    """(3, z, y, x) in voxels, 1.2 on average."""
    return 0.75 * random_smooth(7, SHAPE, 7.0, channels=3)


@pytest.fixture(scope="module")
def pair(truth):
    """A fixed and a moving volume, bright in one where the other is dark."""
    moving = tissue(1)
    return 1.0 - warp(moving[None], truth)[0], moving


def on_cells(field):
    return pool(field, 2) / 2.0


def error_voxels(found, truth):
    inner = (slice(None), *(slice(3, -3),) * 3)
    return float(2.0 * (found - on_cells(truth))[inner].norm(dim=0).mean())


def refined(pair, start, weight=None, settings=SETTINGS, progress=QUIET):
    factor = settings.adam_grid_spacing
    return stage(SelfSimilarity, settings).refined(*pair, start, factor, weight, progress)


def test_it_brings_the_last_voxel_where_contrast_is_inverted(pair, truth):
    start = 0.6 * on_cells(truth)
    assert error_voxels(refined(pair, start), truth) < 0.4 * error_voxels(start, truth)


def test_it_is_finer_than_averages_over_the_same_cells(pair, truth):
    start = 0.6 * on_cells(truth)
    encoder = MindEncoder(1, 1)
    averages = Term(*(pool(encoder.encode(volume[None])[0], 2) for volume in pair), None)
    of_averages = optimised([averages], start, SETTINGS, QUIET).displacement
    assert error_voxels(refined(pair, start), truth) < 0.7 * error_voxels(of_averages, truth)


def test_every_voxel_of_a_cell_has_its_turn_and_incomplete_cells_stay_inside():
    shape = (7, 6, 5)  # cells of 2: the last ones along z and x hold one voxel
    fixed, moving = (random_smooth(seed, shape, 1.0, channels=2) for seed in (1, 2))
    rows = [features.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2) for features in (fixed, moving)]
    difference = self_similarity._VoxelDifference(*rows, torch.ones(4, 3, 3), 2, SquaredDifference())
    still = torch.zeros(3, 4, 3, 3)
    energies = [difference.add_to(torch.zeros_like(still), still) for _ in range(8)]
    index = [torch.arange(0, 2 * cells).clamp(max=size - 1) for cells, size in zip((4, 3, 3), shape, strict=True)]
    repeated = (fixed - moving).square().sum(0)[index[0]][:, index[1]][:, :, index[2]]
    assert sum(energies) == pytest.approx(float(repeated.sum()) / 36, rel=1e-4)
    again = difference.add_to(torch.zeros_like(still), still)
    assert again == pytest.approx(energies[0]), "then they begin anew"


def test_the_gradient_is_that_of_the_energy():
    fixed, moving = (random_smooth(seed, SHAPE, 2.0, channels=2).double() for seed in (1, 2))
    weight = torch.rand(18, 24, 20, generator=torch.Generator().manual_seed(0)).double()
    start = on_cells(0.5 * random_smooth(3, SHAPE, 6.0, channels=3)).double()
    direction = on_cells(random_smooth(4, SHAPE, 6.0, channels=3)).double()

    def energy_at(step):
        gradient = torch.zeros_like(start)
        difference = self_similarity._VoxelDifference(fixed, moving, weight, 2, SquaredDifference())
        return difference.add_to(gradient, start + step * direction), gradient

    slope = float(energy_at(1e-4)[0] - energy_at(-1e-4)[0]) / 2e-4
    assert float((energy_at(0.0)[1] * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_what_one_volume_alone_shows_shrinks_far_less_than_if_all_places_counted_alike(monkeypatch):
    away = identity_positions(SHAPE, CPU) - torch.tensor([18.0, 24.0, 20.0]).view(3, 1, 1, 1)
    ball = (away.norm(dim=0) < 8).float()
    fixed = 1.0 - tissue(1)
    moving = torch.where(ball > 0, 1.0, tissue(1))

    def lost():
        field = upsample(refined((fixed, moving), torch.zeros(3, 18, 24, 20)), 2, SHAPE)
        return 1.0 - float(warp(ball[None], field).sum() / ball.sum())

    careful = lost()
    monkeypatch.setattr(self_similarity, "reliability", lambda fixed, *_: torch.ones_like(fixed[0]))
    assert careful < 0.5 * lost()


def test_what_counts_nothing_pulls_nothing(pair, truth):
    constant = torch.ones_like(on_cells(truth))
    # Adam makes a little of rounding errors where there is no gradient at all.
    torch.testing.assert_close(refined(pair, constant, torch.zeros(18, 24, 20)), constant, atol=0.05, rtol=0.0)


def test_it_ends_convex_adam_on_the_same_cells(pair, truth):
    cells = [pool(MindEncoder(1, 2).encode(volume[None])[0], 2) for volume in pair]
    settings = Settings(grid_spacing=4, displacement_half_width=2)
    with_it, without = (run(*cells, settings, voxel_mm=1.0, voxels=voxels).displacement for voxels in (pair, None))
    assert with_it.shape == without.shape
    assert error_voxels(with_it, truth) < 0.7 * error_voxels(without, truth)


def test_it_is_left_out_where_it_is_switched_off_or_memory_forbids(monkeypatch):
    assert stage(SelfSimilarity, Settings()).intensity_spacing(1000, 1.0, 2) == 1
    assert not any(isinstance(each, SelfSimilarity) for each in stages_of(Settings(voxel_iterations=0)))
    monkeypatch.setattr(self_similarity, "_MOST_VOXELS", 999)
    assert stage(SelfSimilarity, Settings()).intensity_spacing(1000, 1.0, 2) is None


def test_descriptors_of_voxels_lie_side_by_side_and_do_not_depend_on_the_slabs(pair, monkeypatch):
    encoder = MindEncoder(1, 1)
    whole = voxel_descriptor(encoder, pair[0], torch.float32, QUIET)
    assert whole.stride(0) == 1
    torch.testing.assert_close(whole, encoder.encode(pair[0][None])[0])
    monkeypatch.setattr("FoundationRegistrationLib.features.grid._SLAB_VOXELS", 5 * SHAPE[1] * SHAPE[2])
    torch.testing.assert_close(voxel_descriptor(encoder, pair[0], torch.float32, QUIET), whole)


def test_it_can_be_cancelled(pair, truth):
    progress = Progress({"self-similarity": 1.0}, cancelled=lambda: True)
    with pytest.raises(RegistrationCancelledError):
        refined(pair, on_cells(truth), progress=progress)
