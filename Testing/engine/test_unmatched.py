"""A structure that only one volume has: found without a mask and not squeezed, while all else moves as before."""

import pytest
import torch
from fields import CPU, random_smooth
from stages import run

from FoundationRegistrationLib.convex_adam.regularisers import Diffusion
from FoundationRegistrationLib.convex_adam.unmatched import unmatched
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import identity_positions, warp

SHAPE = (36, 44, 32)
CENTER, RADIUS = (17.0, 23.0, 15.0), 5.0
CELL_MM = 2.0


@pytest.fixture(scope="module")
def truth():
    return 0.8 * random_smooth(1, SHAPE, 6.0, 3)


@pytest.fixture(scope="module")
def lesion():
    """Of the moving volume, (z, y, x) in 0..1."""
    away = (identity_positions(SHAPE, CPU) - torch.tensor(CENTER).view(3, 1, 1, 1)).norm(dim=0)
    return torch.sigmoid(4.0 * (RADIUS - away))


@pytest.fixture(scope="module")
def pair(truth, lesion):
    """Fixed features, and moving ones in which a lesion has replaced what was there."""
    healthy = random_smooth(0, SHAPE, 2.5, 4)
    strange = torch.tensor([3.0, -2.0, 2.0, 1.0]).view(4, 1, 1, 1)
    return warp(healthy, truth), torch.lerp(healthy, strange, lesion)


def found(pair, stiffness):
    """The displacement with a stiffness of what is unmatched."""
    settings = Settings(adam_grid_spacing=1, grid_spacing=3, regularization=4.0, unmatched_stiffness=stiffness)
    return run(*pair, settings, voxel_mm=CELL_MM).displacement


def test_a_lesion_of_one_side_is_found_and_nothing_else(pair, truth, lesion):
    share = unmatched(*pair, truth, None, CELL_MM)
    carried = warp(lesion[None], truth)[0]
    assert share.min() >= 0.0
    assert share.max() <= 1.0
    assert share[carried > 0.9].min() > 0.5
    away = torch.nn.functional.max_pool3d(carried[None], 11, stride=1, padding=5)[0] < 0.01
    assert float((share[away] > 0.01).float().mean()) < 0.01


def test_a_coarse_grid_does_not_judge_over_less_than_a_cell(pair, truth):
    assert torch.equal(unmatched(*pair, truth, None, 100.0), unmatched(*pair, truth, None, 4.0))


def test_what_does_not_count_is_not_unmatched(pair, truth, lesion):
    weight = (warp(lesion[None], truth)[0] < 1e-3).float()
    weight = -torch.nn.functional.max_pool3d(-weight[None], 7, stride=1, padding=3)[0]
    assert unmatched(*pair, truth, weight, CELL_MM)[weight == 0].max() < 0.5


def test_a_lesion_of_one_side_keeps_its_volume_and_the_rest_its_exactness(pair, truth, lesion):
    own = float(lesion.sum())
    free, stiff = (found(pair, stiffness) for stiffness in (0.0, 100.0))
    squeezed, kept = (abs(float(warp(lesion[None], field).sum()) / own - 1.0) for field in (free, stiff))
    assert squeezed > 0.1, "else there would be nothing to keep"
    assert kept < 0.5 * squeezed
    away = warp(lesion[None], truth)[0] < 1e-3
    errors = [float((field - truth).norm(dim=0)[away].mean()) for field in (free, stiff)]
    assert errors[1] < 1.05 * errors[0]


def test_the_gradient_of_a_regulariser_that_differs_from_place_to_place_is_the_one_of_autograd():
    shape = (5, 7, 6)
    field = random_smooth(3, shape, 0.7, 3).double().requires_grad_(True)
    stiffness = 1.0 + torch.rand(shape, generator=torch.Generator().manual_seed(2)).double()
    energy = sum(
        2.5 * (field.diff(dim=1 + axis).square() * stiffness.unfold(axis, 2, 1).mean(-1)).mean() for axis in range(3)
    )
    (expected,) = torch.autograd.grad(energy, field)
    gradient = torch.zeros_like(field)
    with torch.no_grad():
        value = Diffusion(2.5).add_to(gradient, field.detach(), stiffness)
    assert value == pytest.approx(energy.item())
    torch.testing.assert_close(gradient, expected)
