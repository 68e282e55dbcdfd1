"""The continuous stage, against plain Adam on the plain energy or a known answer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fields import QUIET, constant, random_smooth
from stages import optimised, run

from FoundationRegistrationLib.convex_adam import regularisers, similarities
from FoundationRegistrationLib.convex_adam.similarities import FeatureDifference, SquaredDifference, Term
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import (
    warp,
)

SHAPE = (11, 14, 9)


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
    monkeypatch.setattr(similarities, "CELLS_PER_SLAB", per_slab)
    fixed, moving, parameter, weight = problem
    weight[:, 3:6] = 0.0
    settings = Settings(smoothing_kernel=kernel, smoothing_repeats=repeats, regularization=1.7)
    parameter = parameter.requires_grad_(True)
    expected, field = plain_energy(fixed, moving, parameter, weight, settings)
    (expected_gradient,) = torch.autograd.grad(expected, parameter)

    with torch.no_grad():
        matrices = [m.double() for m in regularisers.smoothing_matrices(parameter, kernel, repeats)]
        smooth = regularisers.filtered(parameter, matrices)
    torch.testing.assert_close(smooth, field.detach(), rtol=1e-5, atol=1e-6)
    gradient = torch.zeros_like(smooth)
    energy = FeatureDifference(Term(fixed, moving, weight), SquaredDifference()).add_to(gradient, smooth)
    energy += regularisers.Diffusion(settings.regularization).add_to(gradient, smooth)
    result = regularisers.filtered(gradient, [m.T for m in matrices])
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
    result = optimised([Term(fixed, moving, weight)], start, settings, QUIET)
    assert result.energies == pytest.approx(energies, rel=1e-3)
    torch.testing.assert_close(result.displacement, field.detach(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_slabs_give_what_the_whole_gives(problem, monkeypatch, weighted):
    fixed, moving, start, weight = (part.float() for part in problem)
    term = Term(fixed, moving, weight if weighted else None)
    settings = Settings(iterations=3, convergence_tolerance=0.0)
    whole = optimised([term], start, settings, QUIET)
    monkeypatch.setattr(similarities, "CELLS_PER_SLAB", 250)  # of 792 cells, so that the last slab is short
    slabs = optimised([term], start, settings, QUIET)
    assert slabs.energies == pytest.approx(whole.energies, rel=1e-5)
    torch.testing.assert_close(slabs.displacement, whole.displacement, rtol=0, atol=1e-3)


def test_cells_of_no_weight_pull_nothing(problem):
    fixed, moving, start, _ = (part.float() for part in problem)
    settings = Settings(iterations=3, convergence_tolerance=0.0, regularization=0.0, adam_levels=1)
    result = optimised([Term(fixed, moving, torch.zeros(fixed.shape[1:]))], start, settings, QUIET)
    assert result.energies == (0.0, 0.0, 0.0)
    once = Settings(iterations=1, regularization=0.0, adam_levels=1)
    still = optimised([Term(fixed, moving, None)], start, once, QUIET)
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
    energies = np.array(optimised([Term(fixed, moving, None)], start, settings, QUIET).energies)
    assert len(energies) == 40
    assert energies[-1] < 0.3 * energies[0]
    assert (np.diff(energies) < 0.01 * energies[0]).all()
    assert torch.equal(start, torch.zeros_like(start)), "the start belongs to the caller"


def test_it_stops_when_converged_but_never_with_a_tolerance_of_zero(easy_pair):
    fixed, moving = easy_pair
    start = torch.zeros(3, *fixed.shape[1:])
    common = {"iterations": 150, "learning_rate": 0.3, "regularization": 0.5, "adam_levels": 1}
    runs = {
        tolerance: optimised(
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
    stopped = optimised([Term(nothing, nothing, None)], start, one_level, QUIET)
    assert 0 < len(stopped.energies) <= 20
    on_and_on = Settings(adam_levels=1, convergence_tolerance=0.0)
    never = optimised([Term(nothing, nothing, None)], start, on_and_on, QUIET)
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
    found = optimised([Term(warp(moving, truth), moving, None)], start, settings, QUIET)
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
        found = optimised([Term(fixed, moving, None)], start, settings, QUIET)
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
    found = optimised([Term(warp(moving, truth), moving, None)], torch.zeros_like(truth), settings, QUIET)
    assert (found.displacement - truth)[:, :, 2:-2, 3:-3].norm(dim=0).mean() < 0.5 * truth.norm(dim=0).mean()


def test_the_refinement_can_be_cancelled_and_tells_how_far_it_is(easy_pair):
    fixed, moving = easy_pair
    seen = []
    progress = Progress({"discrete search": 1.0, "instance optimisation": 1.0}, seen.append, lambda: len(seen) >= 12)
    settings = Settings(grid_spacing=2, adam_grid_spacing=1, displacement_half_width=1)
    with pytest.raises(RegistrationCancelledError):
        run(fixed, moving, settings, voxel_mm=1.0, progress=progress)
    assert {event.step for event in seen} == {"discrete search", "instance optimisation"}
    assert [event.fraction for event in seen] == sorted(event.fraction for event in seen)
