"""Sampling, the discrete search and the stages together, against slow and plain versions or known answers."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from fields import CPU, QUIET, constant, ramps, random_smooth
from stages import run, stage

from FoundationRegistrationLib.convex_adam.cost_volume import candidate_displacements, cost_volume
from FoundationRegistrationLib.convex_adam.coupled_convex import coupled_convex
from FoundationRegistrationLib.convex_adam.discrete_search import DiscreteSearch
from FoundationRegistrationLib.convex_adam.inverse_consistency import make_inverse_consistent
from FoundationRegistrationLib.convex_adam.reliability import reliability
from FoundationRegistrationLib.convex_adam.unfolding import folded_nodes
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.features import pool
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import (
    compose_displacements,
    identity_positions,
    sample,
    upsample,
    warp,
)

SHAPE = (11, 14, 9)


@pytest.fixture
def threads():
    """Sets the number of torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# ---- sampling ----


def test_sampling_at_the_voxel_centres_returns_the_volume():
    volume = random_smooth(0, SHAPE, 1.0, channels=2)
    torch.testing.assert_close(sample(volume, identity_positions(SHAPE, CPU)), volume, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shift", [(2.0, 0.0, 0.0), (0.0, -1.5, 0.0), (0.0, 0.0, 0.75), (1.25, -2.5, 0.5)])
def test_warping_a_ramp_by_a_constant_is_exact(shift):
    """A scale error of N / (N - 1), swapped components or half a voxel would all show here."""
    warped = warp(ramps(SHAPE), constant(shift, SHAPE))
    expected = ramps(SHAPE) + (ramps((9, 9, 9)) - 1.5)[:, 1, 0, 0].mul(shift[0]).view(3, 1, 1, 1)
    expected = expected + (ramps((9, 9, 9)) - 1.5)[:, 0, 1, 0].mul(shift[1]).view(3, 1, 1, 1)
    expected = expected + (ramps((9, 9, 9)) - 1.5)[:, 0, 0, 1].mul(shift[2]).view(3, 1, 1, 1)
    inner = (slice(None), *[slice(3, -3)] * 3)
    torch.testing.assert_close(warped[inner], expected[inner], rtol=0, atol=2e-5)


def test_beyond_the_grid_the_edge_is_repeated_or_zero_as_asked():
    volume = torch.arange(1.0, 6.0).view(1, 1, 1, 5)
    far = constant((0.0, 0.0, 20.0), (1, 1, 5))
    assert warp(volume, far).flatten().tolist() == [5.0] * 5
    assert warp(volume, far, padding="zeros").flatten().tolist() == [0.0] * 5


def test_composition_applies_the_first_displacement_first():
    first, then = constant((1.0, -0.5, 0.25), SHAPE), 0.1 * ramps(SHAPE)
    points = identity_positions(SHAPE, CPU)
    moved = points + first
    expected = moved + sample(then, moved) - points
    torch.testing.assert_close(compose_displacements(first, then), expected)
    assert not torch.allclose(compose_displacements(then, first), expected, atol=1e-2)


def test_composition_with_the_inverse_of_a_shift_is_no_displacement():
    shift = constant((1.0, -2.0, 3.0), SHAPE)
    torch.testing.assert_close(compose_displacements(shift, -shift), torch.zeros_like(shift))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16])
def test_any_number_of_threads_gives_the_same_samples(threads, count):
    volume = random_smooth(1, SHAPE, 1.0, channels=4)
    field = 3.0 * random_smooth(2, (5, 14, 9), 2.0, channels=3)
    threads(1)
    expected = warp(volume, field)
    threads(count)
    result = warp(volume, field)
    assert result.shape == (4, 5, 14, 9)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("count", [1, 3])
def test_the_gradient_of_sampling_does_not_depend_on_the_number_of_threads(threads, count):
    volume = random_smooth(1, SHAPE, 1.0, channels=4)
    positions = (identity_positions(SHAPE, CPU) + 0.3).requires_grad_(True)
    threads(1)
    (expected,) = torch.autograd.grad(sample(volume, positions).square().sum(), positions)
    threads(count)
    (result,) = torch.autograd.grad(sample(volume, positions).square().sum(), positions)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pooling_then_upsampling_a_linear_field_returns_it(factor):
    """Cells and voxels agree on where things are, also where the grid is no multiple of the cell."""
    shape = (22, 17, 25)
    field = ramps(shape)
    result = upsample(pool(field, factor) / factor, factor, shape)
    assert result.shape == field.shape
    inner = (slice(None), *[slice(2 * factor, -3 * factor)] * 3)
    torch.testing.assert_close(result[inner], field[inner], rtol=0, atol=1e-4)


# ---- discrete search ----


def test_candidates_are_all_displacements_within_reach():
    candidates = candidate_displacements(2, CPU)
    assert candidates.shape == (125, 3)
    assert len(torch.unique(candidates, dim=0)) == 125
    assert candidates.abs().max() == 2
    assert candidates[0].tolist() == [-2.0, -2.0, -2.0]
    assert candidates[1].tolist() == [-2.0, -2.0, -1.0]


def plain_cost_volume(fixed, moving, half_width, weight):
    """The cost volume as its definition says it, one candidate at a time."""
    padded = F.pad(moving, (half_width,) * 6)
    costs = []
    for step in candidate_displacements(half_width, CPU).long().tolist():
        z, y, x = (s + half_width for s in step)
        window = padded[:, z : z + fixed.shape[1], y : y + fixed.shape[2], x : x + fixed.shape[3]]
        cost = weight * (fixed - window).square().sum(0)
        costs.append(F.avg_pool3d(F.avg_pool3d(cost[None, None], 3, 1, 1), 3, 1, 1)[0, 0])
    return torch.stack(costs)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_cost_volume_is_what_its_definition_says(weighted):
    shape = (6, 9, 7)
    fixed, moving = random_smooth(0, shape, 1.0, 5), random_smooth(1, shape, 1.0, 5)
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(2)) if weighted else torch.ones(shape)
    result = cost_volume(fixed, moving, 2, weight if weighted else None, QUIET)
    torch.testing.assert_close(result, plain_cost_volume(fixed, moving, 2, weight), rtol=1e-4, atol=1e-4)


def test_the_cost_volume_leaves_the_features_alone_and_can_be_cancelled():
    fixed, moving = random_smooth(0, SHAPE, 1.0, 3), random_smooth(1, SHAPE, 1.0, 3)
    copies = fixed.clone(), moving.clone()
    cost_volume(fixed, moving, 1, torch.full(SHAPE, 0.5), QUIET)
    assert torch.equal(fixed, copies[0])
    assert torch.equal(moving, copies[1])
    with pytest.raises(RegistrationCancelledError):
        cost_volume(fixed, moving, 1, None, Progress({"test": 1.0}, cancelled=lambda: True))


def test_the_coupled_convex_field_does_not_depend_on_how_the_cells_are_cut(monkeypatch):
    candidates = candidate_displacements(2, CPU)
    costs = cost_volume(random_smooth(0, SHAPE, 1.0, 4), random_smooth(1, SHAPE, 1.0, 4), 2, None, QUIET)
    whole = coupled_convex(costs, candidates)
    # The function hides the module of the same name, so it is asked for by name.
    module = importlib.import_module("FoundationRegistrationLib.convex_adam.coupled_convex")
    monkeypatch.setattr(module, "_CELLS_PER_CHUNK", 100)
    torch.testing.assert_close(coupled_convex(costs, candidates), whole, rtol=0, atol=1e-5)


def test_inverse_consistent_fields_undo_each_other():
    shape = (16, 20, 13)
    forward = 1.5 * random_smooth(0, shape, 4.0, 3)
    backward = -forward + 0.8 * random_smooth(1, shape, 4.0, 3)
    inner = (slice(None), *[slice(4, -4)] * 3)

    def residual(one, other):
        return float(compose_displacements(one, other)[inner].norm(dim=0).mean())

    before = residual(forward, backward)
    one, other = make_inverse_consistent(forward, backward, 15)
    assert before > 0.5
    assert residual(one, other) < 0.1 * before
    assert residual(other, one) < 0.1 * before
    assert float(one.norm(dim=0).mean()) > 0.5, "not by going to zero"


def search(settings):
    return stage(DiscreteSearch, settings)


def test_search_levels_double_until_they_reach_far_enough():
    one_level = Settings(grid_spacing=6, displacement_half_width=4)
    assert search(one_level).factors(1.0) == [6]
    assert search(one_level).reach_mm(1.0) == 24.0
    two_levels = Settings(grid_spacing=6, displacement_half_width=4, search_range_mm=25.0)
    assert search(two_levels).factors(1.0) == [12, 6]
    assert search(two_levels).reach_mm(1.0) == 72.0
    assert search(two_levels).factors(2.0) == [6], "the same cells are larger in mm"
    far = Settings(grid_spacing=4, displacement_half_width=2, search_range_mm=100.0)
    assert search(far).factors(1.5) == [32, 16, 8, 4]
    assert search(far).reach_mm(1.5) == 180.0


@pytest.fixture(scope="module")
def far_pair():
    """Features on a grid of 2-voxel cells, and a copy moved by whole search cells: by 30 voxels at most."""
    shape, shift = (54, 66, 61), (-6, 15, 12)
    moving = random_smooth(3, shape, 3.5, channels=8)
    return torch.roll(moving, [-s for s in shift], dims=(1, 2, 3)), moving, torch.tensor(shift)


def far_error(found, shift):
    """Mean error in cells over the cells that both grids show."""
    sizes = zip(shift.tolist(), found.shape[1:], strict=True)
    inner = tuple(slice(10 + max(0, -s), n - 10 - max(0, s)) for s, n in sizes)
    return float((found - shift.view(3, 1, 1, 1)).abs()[(slice(None), *inner)].mean())


@pytest.mark.parametrize("consistency", [0, 15])
def test_a_shift_beyond_one_level_is_found_coarse_to_fine_and_only_so(far_pair, consistency):
    fixed, moving, shift = far_pair
    near = Settings(
        grid_spacing=6,
        displacement_half_width=2,
        adam_grid_spacing=2,
        iterations=0,
        inverse_consistency_iterations=consistency,
    )
    far = Settings.from_dict({**near.to_dict(), "search_range_mm": 30.0})
    assert len(search(far).factors(1.0)) == 2
    seen = []
    found = run(fixed, moving, far, voxel_mm=1.0, seen=seen)
    assert found.energies == ()
    assert far_error(found.displacement, shift) < 0.5
    assert far_error(found.displacement - seen[0].displacement, torch.zeros_like(shift)) < 0.1, "only folds are gone"
    missed = run(fixed, moving, near, voxel_mm=1.0)
    assert far_error(missed.displacement, shift) > 4.0


# ---- all stages ----


def test_both_stages_together_recover_a_smooth_displacement():
    """Sizes that are no multiple of any spacing, all different; displacement known."""
    shape = (43, 55, 49)
    moving = random_smooth(7, shape, 4.0, channels=8)
    truth = 3.0 * random_smooth(8, shape, 16.0, channels=3) + constant((5.0, -3.0, 4.0), shape)
    assert not folded_nodes(truth).any()
    fixed = warp(moving, truth)
    settings = Settings(grid_spacing=6, adam_grid_spacing=2, regularization=0.5)
    seen = []
    found = run(pool(fixed, 2), pool(moving, 2), settings, voxel_mm=1.0, seen=seen)
    discrete = seen[0].displacement
    inner = (slice(None), *[slice(10, -10)] * 3)

    def error(displacement):
        return float((upsample(displacement, 2, shape) - truth)[inner].norm(dim=0).mean())

    nothing = error(torch.zeros_like(found.displacement))
    assert nothing > 6.0
    assert error(discrete) < 0.7 * nothing
    assert error(found.displacement) < 0.3
    assert error(found.displacement) < 0.5 * error(discrete)


# ---- several encoders ----


@pytest.fixture(scope="module")
def half_trusted():
    """Vague features that agree everywhere, sharp ones that agree in one half and are noise in the other."""
    shape = (24, 24, 40)
    truth = 1.5 * random_smooth(8, shape, 7.0, channels=3)
    vague, sharp, noise = (
        random_smooth(seed, shape, sigma, channels=6) for seed, sigma in ((1, 5.0), (2, 1.5), (3, 1.5))
    )
    vague_fixed = warp(vague, truth) + 0.3 * random_smooth(4, shape, 2.0, channels=6)
    sharp_fixed = warp(sharp, truth)
    sharp_fixed[..., 20:] = noise[..., 20:]
    return truth, (vague_fixed, vague), (sharp_fixed, sharp)


def test_features_are_reliable_where_they_agree_and_not_where_they_are_unrelated(half_trusted):
    truth, _, (fixed, moving) = half_trusted
    trusted = reliability(fixed, moving, truth)
    assert trusted.min() >= 0.0
    assert trusted.max() <= 1.0
    assert trusted[..., :16].mean() > 0.95
    assert trusted[..., 24:].mean() < 0.25
    assert reliability(fixed, moving, torch.zeros_like(truth))[..., :16].mean() < 0.5, "a wrong displacement shows"
    torch.testing.assert_close(reliability(3.0 * fixed, 3.0 * moving, truth), trusted, rtol=1e-4, atol=1e-4)


def test_details_sharpen_where_they_can_be_trusted_and_do_no_harm_elsewhere(half_trusted):
    truth, vague, sharp = half_trusted
    settings = Settings(grid_spacing=2, adam_grid_spacing=1, displacement_half_width=2, regularization=0.3)

    def errors(fixed, moving, details=None):
        found = run(fixed, moving, settings, voxel_mm=1.0, details=details).displacement
        wrong = (found - truth).norm(dim=0)[4:-4, 4:-4]
        return float(wrong[..., 4:16].mean()), float(wrong[..., 24:-4].mean())

    alone = errors(*vague)
    hybrid = errors(*vague, details=sharp)
    stacked = errors(*(torch.cat(both) for both in zip(vague, sharp, strict=True)))
    assert hybrid[0] < 0.6 * alone[0], "the sharp features help where they agree"
    assert hybrid[1] < 1.1 * alone[1], "and do no harm where they are noise"
    assert stacked[1] > 1.5 * hybrid[1], "which stacking the features would"


def test_details_lead_where_the_leading_features_fail(half_trusted):
    truth, vague, (_, sharp) = half_trusted
    settings = Settings(grid_spacing=2, adam_grid_spacing=1, displacement_half_width=2, regularization=0.3)
    shape = tuple(truth.shape[1:])
    far = 3.0 * truth / truth.abs().amax()
    unrelated = (random_smooth(7, shape, 2.0, channels=6), random_smooth(8, shape, 2.0, channels=6))

    def found(lead, details):
        result = run(*lead, settings, voxel_mm=1.0, details=details)
        return float((result.displacement - far).norm(dim=0)[4:-4, 4:-4, 4:-4].mean()), result.led_by_details

    details = (warp(sharp, far), sharp)
    failed, led = found(unrelated, details)
    best, _ = found(details, details)
    assert led
    assert failed < 1.5 * best
    assert not found((warp(vague[1], far), vague[1]), details)[1], "the details do not lead where the others do well"
