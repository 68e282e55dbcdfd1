"""The cost of volume changes."""

import pytest
import torch
from stages import stage

from FoundationRegistrationLib.convex_adam.instance_optimisation import InstanceOptimisation
from FoundationRegistrationLib.convex_adam.volume_change import VolumeChange
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import identity_positions

SHAPE = (7, 9, 8)


def cost(displacement, weight=None, strength=1.0):
    return float(VolumeChange(strength, weight).add_to(torch.zeros_like(displacement), displacement))


def linear(matrix):
    moved = torch.tensordot(torch.tensor(matrix), identity_positions(SHAPE, torch.device("cpu")), 1)
    return moved - identity_positions(SHAPE, torch.device("cpu"))


@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]],  # a rotation by 37 degrees
        [[1.0, 0.7, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 1.0]],  # a shear
        [[2.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]],  # pressed between plates
    ],
)
def test_motion_that_keeps_volumes_is_free(matrix):
    assert cost(linear(matrix)) < 1e-9


def test_swelling_and_shrinking_cost_their_squared_change():
    for factor in (0.9, 1.2):
        swollen = linear([[factor, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        assert cost(swollen, strength=3.0) == pytest.approx(3.0 * (factor - 1.0) ** 2, rel=1e-4)


def test_what_has_no_weight_is_free():
    swollen = linear([[1.2, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert cost(swollen, torch.zeros(SHAPE)) == 0.0


@pytest.mark.parametrize("weighted", [False, True])
def test_its_gradient_is_that_of_its_cost(weighted):
    generator = torch.Generator().manual_seed(0)
    displacement = 0.3 * torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    weight = torch.rand(SHAPE, generator=generator, dtype=torch.float64) if weighted else None
    change = VolumeChange(2.0, weight)
    gradient = torch.zeros_like(displacement)
    change.add_to(gradient, displacement)
    for index in torch.randint(displacement.numel(), (12,), generator=generator).tolist():
        ends = []
        for step in (1e-5, -1e-5):
            moved = displacement.clone()
            moved.view(-1)[index] += step
            ends.append(float(change.add_to(torch.zeros_like(moved), moved)))
        assert float(gradient.view(-1)[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_a_plane_has_no_volume():
    assert cost(torch.rand(3, 1, 9, 8)) == 0.0


def test_only_tissue_that_keeps_its_volume_pays():
    strength = [
        stage(InstanceOptimisation, Settings(compressibility=value)).descent.volume_strength
        for value in (1.0, 0.5, 0.0)
    ]
    assert strength[0] == 0.0 < strength[1] < strength[2]


def test_what_the_start_has_scaled_is_free_to_come_back():
    """After a start that enlarges volumes by a fifth, tissue keeps its volume if it shrinks by that."""
    displacement = linear([[1.0 / 1.2, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    change = VolumeChange(1.0, None, 1.0 / 1.2)
    assert float(change.add_to(torch.zeros_like(displacement), displacement)) < 1e-9
    assert cost(displacement) > 0.02
