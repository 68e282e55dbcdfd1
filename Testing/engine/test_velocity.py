"""Velocities from forces: smooth, with as much divergence as the compressibility lets through."""

import pytest
import torch
from fields import CPU, random_smooth
from scipy import ndimage

from FoundationRegistrationLib.convex_adam.velocity import VelocityKernel

SHAPE = (28, 33, 30)
SMOOTHING = 2.0
INNER = (slice(None), *(slice(8, -8),) * 3)


def force(shape=SHAPE):
    return random_smooth(3, shape, 1.5, channels=3)


def velocity(compressibility, of, smoothing=SMOOTHING):
    shape = (of.shape[1], of.shape[2], of.shape[3])
    return VelocityKernel(shape, smoothing, compressibility, CPU)(of)


def divergence(field):
    """By central differences, inside."""
    return sum(torch.gradient(component, dim=axis)[0] for axis, component in enumerate(field))[INNER[1:]]


def test_a_compressible_velocity_is_the_force_under_a_gaussian():
    expected = torch.from_numpy(ndimage.gaussian_filter(force().numpy(), (0, *[SMOOTHING] * 3), truncate=6.0))
    torch.testing.assert_close(velocity(1.0, force())[INNER], expected[INNER], atol=1e-3, rtol=0.0)


def test_an_incompressible_velocity_hardly_changes_volumes():
    free, kept, partly = (divergence(velocity(value, force())).norm() for value in (1.0, 0.0, 0.5))
    assert kept < 0.05 * free
    assert float(partly) == pytest.approx(0.5 * float(free), rel=0.05)


@pytest.mark.parametrize("compressibility", [0.0, 0.1])
def test_a_push_of_everything_moves_everything_the_same_way(compressibility):
    push = torch.zeros(3, *SHAPE)
    push[1] = 1.0
    found = velocity(compressibility, push)[INNER]
    assert found[1].min() > 0.2
    assert found[[0, 2]].abs().max() < 0.2 * found[1].min()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_force_at_one_edge_does_not_appear_at_the_opposite_one(axis):
    push = torch.zeros(3, *SHAPE)
    push[axis].select(axis, 0).fill_(1.0)
    found = velocity(1.0, push)[axis]
    assert found.select(axis, -1).abs().max() < 1e-3 * found.select(axis, 0).abs().max()


@pytest.mark.parametrize("shape", [(1, 9, 7), (5, 13, 17), (2, 2, 2)])
def test_every_size_gives_a_velocity_of_that_size(shape):
    found = velocity(0.1, torch.ones(3, *shape), smoothing=1.5)
    assert found.shape == (3, *shape)
    assert found.isfinite().all()
