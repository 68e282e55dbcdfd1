"""The stages of ConvexAdam, each against a slow and plain version of itself or against a known answer."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from FoundationRegistrationLib.convex_adam import (
    convex_adam,
    instance_optimisation,
    search_factors,
    search_reach_mm,
)
from FoundationRegistrationLib.convex_adam.cost_volume import candidate_displacements, cost_volume
from FoundationRegistrationLib.convex_adam.coupled_convex import coupled_convex
from FoundationRegistrationLib.convex_adam.instance_optimisation import Term, optimise_instance
from FoundationRegistrationLib.convex_adam.inverse_consistency import make_inverse_consistent
from FoundationRegistrationLib.convex_adam.reliability import reliability
from FoundationRegistrationLib.convex_adam.sampling import (
    compose,
    identity_positions,
    sample,
    upsample,
    warp,
)
from FoundationRegistrationLib.convex_adam.unfolding import LEAST_DETERMINANT, folded_nodes, unfold
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.features import pool
from FoundationRegistrationLib.progress import Progress
from FoundationRegistrationLib.settings import Settings

CPU = torch.device("cpu")
QUIET = Progress({"test": 1.0})
SHAPE = (11, 14, 9)


def random_smooth(seed, shape, sigma, channels=1):
    """(C, z, y, x) noise of unit variance, smooth over `sigma` voxels, the same for the same seed."""
    rng = np.random.default_rng(seed)
    volume = ndimage.gaussian_filter(rng.standard_normal((channels, *shape)), (0, *[sigma] * 3), mode="wrap")
    return torch.from_numpy(volume / volume.std()).float()


def ramps(shape, dtype=torch.float32):
    """Three linear functions of the voxel index with no symmetry between the axes, (3, z, y, x)."""
    matrix = torch.tensor([[0.3, -0.2, 0.05], [0.1, 0.25, -0.15], [-0.05, 0.12, 0.2]], dtype=dtype)
    return torch.einsum("ij,jzyx->izyx", matrix, identity_positions(shape, CPU).to(dtype)) + 1.5


def constant(vector, shape):
    return torch.tensor(vector).view(3, 1, 1, 1).expand(3, *shape).clone()


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
    torch.testing.assert_close(compose(first, then), expected)
    assert not torch.allclose(compose(then, first), expected, atol=1e-2)


def test_composition_with_the_inverse_of_a_shift_is_no_displacement():
    shift = constant((1.0, -2.0, 3.0), SHAPE)
    torch.testing.assert_close(compose(shift, -shift), torch.zeros_like(shift))


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
        return float(compose(one, other)[inner].norm(dim=0).mean())

    before = residual(forward, backward)
    one, other = make_inverse_consistent(forward, backward, 15)
    assert before > 0.5
    assert residual(one, other) < 0.1 * before
    assert residual(other, one) < 0.1 * before
    assert float(one.norm(dim=0).mean()) > 0.5, "not by going to zero"


def test_search_levels_double_until_they_reach_far_enough():
    one_level = Settings(grid_spacing=6, displacement_half_width=4)
    assert search_factors(one_level, 1.0) == [6]
    assert search_reach_mm(one_level, 1.0) == 24.0
    two_levels = Settings(grid_spacing=6, displacement_half_width=4, search_range_mm=25.0)
    assert search_factors(two_levels, 1.0) == [12, 6]
    assert search_reach_mm(two_levels, 1.0) == 72.0
    assert search_factors(two_levels, 2.0) == [6], "the same cells are larger in mm"
    far = Settings(grid_spacing=4, displacement_half_width=2, search_range_mm=100.0)
    assert search_factors(far, 1.5) == [32, 16, 8, 4]
    assert search_reach_mm(far, 1.5) == 180.0


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
    assert len(search_factors(far, 1.0)) == 2
    found = convex_adam(fixed, moving, far, voxel_mm=1.0)
    assert found.energies == ()
    assert far_error(found.displacement, shift) < 0.5
    assert far_error(found.displacement - found.discrete, torch.zeros_like(shift)) < 0.1, "only folds are gone"
    missed = convex_adam(fixed, moving, near, voxel_mm=1.0)
    assert far_error(missed.displacement, shift) > 4.0


# ---- instance optimisation ----


def plain_energy(fixed, moving, parameter, weight, settings):
    """The energy of equation 3 in torch's own operations, differentiable by `parameter`; and the field.

    Box filters that average over the neighbours that exist are `count_include_pad=False`.
    """
    width = settings.smoothing_kernel
    field = parameter[None]
    for _ in range(settings.smoothing_repeats):
        field = F.avg_pool3d(field, width, stride=1, padding=width // 2, count_include_pad=False)
    field = field[0]
    sizes = torch.tensor(fixed.shape[1:], dtype=fixed.dtype)
    shape = tuple(fixed.shape[1:])
    identity = F.affine_grid(torch.eye(3, 4, dtype=fixed.dtype)[None], (1, 1, *shape), align_corners=False)
    grid = identity + (field.permute(1, 2, 3, 0) * 2 / sizes).flip(-1)
    looked_up = F.grid_sample(moving[None], grid, padding_mode="border", align_corners=False)[0]
    data = (weight * (looked_up - fixed).square().sum(0)).mean()
    smoothness = sum(field.diff(dim=axis).square().mean() for axis in (1, 2, 3) if field.shape[axis] > 1)
    return data + settings.regularization * smoothness, field


@pytest.fixture
def problem():
    """A small problem in float64: fixed, moving, displacement, weight."""
    shape = (8, 11, 9)
    fixed, moving = random_smooth(0, shape, 1.5, 4).double(), random_smooth(1, shape, 1.5, 4).double()
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(2)).double()
    return fixed, moving, random_smooth(3, shape, 0.7, 3).double(), weight


@pytest.mark.parametrize(("kernel", "repeats"), [(3, 3), (7, 5), (3, 0)])
@pytest.mark.parametrize("per_slab", [100, 10**9])
def test_the_written_out_gradient_is_the_one_of_autograd(problem, monkeypatch, kernel, repeats, per_slab):
    monkeypatch.setattr(instance_optimisation, "_CELLS_PER_SLAB", per_slab)
    fixed, moving, parameter, weight = problem
    weight[:, 3:6] = 0.0
    settings = Settings(smoothing_kernel=kernel, smoothing_repeats=repeats, regularization=1.7)
    parameter = parameter.requires_grad_(True)
    expected, field = plain_energy(fixed, moving, parameter, weight, settings)
    (expected_gradient,) = torch.autograd.grad(expected, parameter)

    with torch.no_grad():
        matrices = [m.double() for m in instance_optimisation._smoothing_matrices(parameter, settings)]
        smooth = instance_optimisation._filtered(parameter, matrices)
    torch.testing.assert_close(smooth, field.detach(), rtol=1e-5, atol=1e-6)
    gradient = torch.zeros_like(smooth)
    energy = instance_optimisation._Difference(Term(fixed, moving, weight)).add_to(gradient, smooth)
    energy += instance_optimisation._add_diffusion(smooth, settings.regularization, gradient)
    result = instance_optimisation._filtered(gradient, [m.T for m in matrices])
    assert energy == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(result, expected_gradient, rtol=1e-4, atol=1e-6 * float(expected_gradient.abs().max()))


def test_the_optimisation_follows_adam_on_the_plain_energy(problem):
    fixed, moving, start, weight = (part.float() for part in problem)
    settings = Settings(iterations=6, learning_rate=0.2, regularization=0.8, convergence_tolerance=0.0, adam_levels=1)
    parameter = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([parameter], lr=0.2)
    energies = []
    for _ in range(6):
        adam.zero_grad()
        energy, field = plain_energy(fixed, moving, parameter, weight, settings)
        energy.backward()
        energies.append(float(energy))
        adam.step()
    result = optimise_instance([Term(fixed, moving, weight)], start, settings, QUIET)
    assert result.energies == pytest.approx(energies, rel=1e-3)
    torch.testing.assert_close(result.displacement, field.detach(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_slabs_give_what_the_whole_gives(problem, monkeypatch, weighted):
    fixed, moving, start, weight = (part.float() for part in problem)
    term = Term(fixed, moving, weight if weighted else None)
    settings = Settings(iterations=3, convergence_tolerance=0.0)
    whole = optimise_instance([term], start, settings, QUIET)
    monkeypatch.setattr(instance_optimisation, "_CELLS_PER_SLAB", 250)  # of 792 cells, so that the last slab is short
    slabs = optimise_instance([term], start, settings, QUIET)
    assert slabs.energies == pytest.approx(whole.energies, rel=1e-5)
    torch.testing.assert_close(slabs.displacement, whole.displacement, rtol=0, atol=1e-3)


def test_cells_of_no_weight_pull_nothing(problem):
    fixed, moving, start, _ = (part.float() for part in problem)
    settings = Settings(iterations=3, convergence_tolerance=0.0, regularization=0.0, adam_levels=1)
    result = optimise_instance([Term(fixed, moving, torch.zeros(fixed.shape[1:]))], start, settings, QUIET)
    assert result.energies == (0.0, 0.0, 0.0)
    once = Settings(iterations=1, regularization=0.0, adam_levels=1)
    still = optimise_instance([Term(fixed, moving, None)], start, once, QUIET)
    torch.testing.assert_close(result.displacement, still.displacement)


@pytest.fixture(scope="module")
def easy_pair():
    """Features, and the same displaced by a smooth field of about one cell."""
    shape = (22, 27, 19)
    moving = random_smooth(5, shape, 2.0, channels=6)
    return warp(moving, 0.7 * random_smooth(6, shape, 6.0, channels=3)), moving


def test_energies_decrease(easy_pair):
    fixed, moving = easy_pair
    start = torch.zeros(3, *fixed.shape[1:])
    settings = Settings(
        iterations=40, learning_rate=0.1, regularization=0.1, convergence_tolerance=0.0, adam_levels=1
    )
    energies = np.array(optimise_instance([Term(fixed, moving, None)], start, settings, QUIET).energies)
    assert len(energies) == 40
    assert energies[-1] < 0.3 * energies[0]
    assert (np.diff(energies) < 0.01 * energies[0]).all()
    assert torch.equal(start, torch.zeros_like(start)), "the start belongs to the caller"


def test_it_stops_when_converged_but_never_with_a_tolerance_of_zero(easy_pair):
    fixed, moving = easy_pair
    start = torch.zeros(3, *fixed.shape[1:])
    common = {"iterations": 150, "learning_rate": 0.3, "regularization": 0.5, "adam_levels": 1}
    runs = {
        tolerance: optimise_instance(
            [Term(fixed, moving, None)], start, Settings(convergence_tolerance=tolerance, **common), QUIET
        )
        for tolerance in (0.0, 0.002, 0.1)
    }
    counts = {tolerance: len(run.energies) for tolerance, run in runs.items()}
    assert counts[0.0] == 150
    assert 20 <= counts[0.1] < counts[0.002] < 150
    assert runs[0.002].energies[-1] < 1.1 * runs[0.0].energies[-1], "little was lost by stopping"


def test_where_nothing_can_be_gained_it_stops():
    nothing = torch.ones(4, *SHAPE)
    start = torch.zeros(3, *SHAPE)
    one_level = Settings(adam_levels=1)
    stopped = optimise_instance([Term(nothing, nothing, None)], start, one_level, QUIET)
    assert 0 < len(stopped.energies) <= 20
    on_and_on = Settings(adam_levels=1, convergence_tolerance=0.0)
    never = optimise_instance([Term(nothing, nothing, None)], start, on_and_on, QUIET)
    assert len(never.energies) == 80
    assert torch.equal(stopped.displacement, start)


@pytest.mark.parametrize("cells", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(("levels", "roughness"), [(1, 0.02), (3, 0.05)])
def test_a_start_close_to_the_answer_is_not_left_for_a_worse_one(cells, levels, roughness):
    """Adam's first steps are as long as the learning rate; it must not stop before it has come back."""
    shape = (22, 27, 19)
    moving = random_smooth(5, shape, 2.0, channels=6)
    truth = cells * random_smooth(6, shape, 6.0, channels=3)
    start = torch.zeros_like(truth)
    settings = Settings(adam_levels=levels)
    found = optimise_instance([Term(warp(moving, truth), moving, None)], start, settings, QUIET)
    inner = (slice(None), *[slice(3, -3)] * 3)
    error = (found.displacement - truth)[inner].norm(dim=0).mean()
    assert error < roughness + 0.2 * (start - truth)[inner].norm(dim=0).mean()


def test_levels_come_further_than_as_many_iterations_on_the_finest_grid_alone():
    """Displaced by three cells at most, from zero; far more iterations on one level are the measure."""
    shape = (32, 38, 34)
    moving = random_smooth(5, shape, 2.0, channels=6)
    truth = random_smooth(6, shape, 8.0, channels=3)
    fixed, start = warp(moving, truth), torch.zeros_like(truth)
    inner = (slice(None), *[slice(4, -4)] * 3)
    errors, counts = {}, {}
    for name, values in {
        "levels": {},
        "one": {"adam_levels": 1},
        "short": {"adam_levels": 1, "iterations": 20},
    }.items():
        settings = Settings(convergence_tolerance=0.0, **values)
        found = optimise_instance([Term(fixed, moving, None)], start, settings, QUIET)
        errors[name] = float((found.displacement - truth)[inner].norm(dim=0).mean())
        counts[name] = len(found.energies)
    assert counts == {"levels": 20, "one": 80, "short": 20}
    assert errors["levels"] < 0.7 * errors["short"]
    assert errors["levels"] < errors["one"] + 0.03


def test_a_grid_too_small_for_levels_is_optimised_all_the_same():
    shape = (3, 9, 40)
    moving = random_smooth(5, shape, 2.0, channels=6)
    truth = constant((0.0, 0.6, -0.8), shape)
    settings = Settings(adam_levels=4, convergence_tolerance=0.0)
    found = optimise_instance([Term(warp(moving, truth), moving, None)], torch.zeros_like(truth), settings, QUIET)
    assert (found.displacement - truth)[:, :, 2:-2, 3:-3].norm(dim=0).mean() < 0.5 * truth.norm(dim=0).mean()


def test_the_refinement_can_be_cancelled_and_tells_how_far_it_is(easy_pair):
    fixed, moving = easy_pair
    seen = []
    progress = Progress({"discrete search": 1.0, "instance optimisation": 1.0}, seen.append, lambda: len(seen) >= 12)
    settings = Settings(grid_spacing=2, adam_grid_spacing=1, displacement_half_width=1)
    with pytest.raises(RegistrationCancelledError):
        convex_adam(fixed, moving, settings, voxel_mm=1.0, progress=progress)
    assert {event.step for event in seen} == {"discrete search", "instance optimisation"}
    assert [event.fraction for event in seen] == sorted(event.fraction for event in seen)


def test_both_stages_together_recover_a_smooth_displacement():
    """Sizes that are no multiple of any spacing, all different; displacement known."""
    shape = (43, 55, 49)
    moving = random_smooth(7, shape, 4.0, channels=8)
    truth = 3.0 * random_smooth(8, shape, 16.0, channels=3) + constant((5.0, -3.0, 4.0), shape)
    assert not folded_nodes(truth).any()
    fixed = warp(moving, truth)
    settings = Settings(grid_spacing=6, adam_grid_spacing=2, regularization=0.5)
    found = convex_adam(pool(fixed, 2), pool(moving, 2), settings, voxel_mm=1.0)
    inner = (slice(None), *[slice(10, -10)] * 3)

    def error(displacement):
        return float((upsample(displacement, 2, shape) - truth)[inner].norm(dim=0).mean())

    nothing = error(torch.zeros_like(found.displacement))
    assert nothing > 6.0
    assert error(found.discrete) < 0.7 * nothing
    assert error(found.displacement) < 0.3
    assert error(found.displacement) < 0.5 * error(found.discrete)


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
        found = convex_adam(fixed, moving, settings, voxel_mm=1.0, details=details).displacement
        wrong = (found - truth).norm(dim=0)[4:-4, 4:-4]
        return float(wrong[..., 4:16].mean()), float(wrong[..., 24:-4].mean())

    alone = errors(*vague)
    hybrid = errors(*vague, details=sharp)
    stacked = errors(*(torch.cat(both) for both in zip(vague, sharp, strict=True)))
    assert hybrid[0] < 0.6 * alone[0], "the sharp features help where they agree"
    assert hybrid[1] < 1.1 * alone[1], "and do no harm where they are noise"
    assert stacked[1] > 1.5 * hybrid[1], "which stacking the features would"


# ---- no folds ----


def determinants(displacement):
    """The Jacobian determinant of the trilinearly interpolated map, at random places inside the cells."""
    shape = displacement.shape[1:]
    limits = torch.tensor(shape).view(3, 1, 1, 1) - 1.0
    inside = torch.rand(3, 20, 30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * limits
    here = inside.requires_grad_(True)
    moved = here + sample(displacement.double(), here)
    rows = [torch.autograd.grad(component.sum(), here, retain_graph=True)[0] for component in moved]
    return torch.linalg.det(torch.stack(rows).permute(2, 3, 4, 0, 1))


@pytest.mark.parametrize("strength", [2.0, 8.0])
def test_no_fold_is_left_however_wild_the_field(strength):
    wild = strength * random_smooth(11, (19, 22, 25), 1.5, channels=3)
    assert (determinants(wild) <= 0).any()
    tamed, changed = unfold(wild)
    assert (determinants(tamed) > 0).all()
    assert not folded_nodes(tamed).any()
    assert 0 < changed <= 1


def test_only_what_is_near_a_fold_is_changed():
    shape = (24, 26, 40)
    gentle = random_smooth(12, shape, 5.0, channels=3)
    assert torch.equal(unfold(gentle)[0], gentle)
    assert unfold(gentle)[1] == 0
    folded = gentle.clone()
    folded[2, 10:14, 11:15, 10] += 3.0
    tamed, changed = unfold(folded)
    assert (determinants(tamed) > 0).all()
    assert torch.equal(tamed[..., 24:], gentle[..., 24:])
    assert changed < 0.3


def test_uniform_shrinking_is_no_fold_until_it_is_extreme():
    positions = identity_positions((8, 8, 8), CPU)
    assert not folded_nodes(-0.5 * positions).any()
    limit = 1.0 - LEAST_DETERMINANT ** (1 / 3)
    assert folded_nodes(-(limit + 0.01) * positions).all()
    assert not folded_nodes(-(limit - 0.01) * positions).any()
