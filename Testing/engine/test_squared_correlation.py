"""The squared local correlation and its derivative by the moving intensities."""

import itertools

import numpy as np
import pytest
import torch
from fields import random_smooth

from FoundationRegistrationLib.convex_adam.squared_correlation import squared_correlation

SHAPE = (11, 12, 13)
RADIUS = 2


def intensities(seed):
    """(z, y, x) about 0.5, in float64."""
    return 0.5 + 0.2 * random_smooth(seed, SHAPE, 1.0)[0].double()


def weights(seed=0):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)).double()


def mean_of_windows(fixed, moving, weight):
    """The weighted mean of squared weighted Pearson correlations, one window after the other."""
    fixed, moving, weight = (each.numpy() for each in (fixed, moving, weight))
    total = 0.0
    for node in itertools.product(*map(range, SHAPE)):
        window = tuple(slice(max(at - RADIUS, 0), at + RADIUS + 1) for at in node)
        covariance = np.cov(fixed[window].ravel(), moving[window].ravel(), aweights=weight[window].ravel())
        total += weight[node] * covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
    return total / weight.sum()


def test_the_value_is_the_mean_of_squared_correlations_in_windows():
    fixed, weight = intensities(1), weights()
    for moving in (intensities(2), 0.7 * fixed + 0.3 * intensities(2), 1.0 - fixed):
        value, _ = squared_correlation(fixed, moving, weight, RADIUS)
        assert float(value) == pytest.approx(mean_of_windows(fixed, moving, weight), abs=0.01)


def test_the_derivative_is_that_of_the_value():
    fixed, moving, weight = intensities(1), 0.5 * intensities(1) + 0.5 * intensities(2), weights()
    direction = intensities(3) - 0.5

    def value_at(step):
        return float(squared_correlation(fixed, moving + step * direction, weight, RADIUS)[0])

    slope = (value_at(1e-5) - value_at(-1e-5)) / 2e-5
    _, derivative = squared_correlation(fixed, moving, weight, RADIUS)
    assert float((derivative * direction).sum() / weight.sum()) == pytest.approx(slope, rel=0.03)


def test_only_voxels_with_weight_count():
    fixed, moving, weight = intensities(1), intensities(2), torch.zeros(SHAPE).double()
    weight[:3] = 1.0
    value, derivative = squared_correlation(fixed, moving, weight, RADIUS)
    changed = moving.clone()
    changed[3:] = 0.0  # also within the last windows
    assert float(squared_correlation(fixed, changed, weight, RADIUS)[0]) == pytest.approx(float(value))
    assert not derivative[3:].any()
    nothing, derivative = squared_correlation(fixed, moving, torch.zeros_like(weight), RADIUS)
    assert float(nothing) == 0.0
    assert not derivative.any()


def test_where_a_line_explains_all_nothing_pulls():
    fixed, weight = intensities(1), weights()
    _, usual = squared_correlation(fixed, intensities(2), weight, RADIUS)
    for moving in (fixed, 1.0 - 0.5 * fixed):
        value, derivative = squared_correlation(fixed, moving, weight, RADIUS)
        assert float(value) == pytest.approx(1.0)
        assert derivative.abs().max() < 1e-9 * usual.abs().max()


@pytest.mark.parametrize("value", [0.0, 0.123, 0.37, 1.0])
def test_rounding_errors_of_a_constant_part_do_not_pull(value):
    fixed, moving = intensities(1).float(), intensities(2).float()
    _, usual = squared_correlation(fixed, moving, torch.ones(SHAPE), RADIUS)
    moving[SHAPE[0] // 2 :] = value
    _, pull = squared_correlation(fixed, moving, torch.ones(SHAPE), RADIUS)
    assert pull[SHAPE[0] // 2 + RADIUS :].abs().max() < usual.abs().max()


def test_flat_windows_neither_count_nor_pull():
    """Noise of a 1000th of the intensities on a flat half, different in both, spoils nothing."""
    fixed, moving = intensities(1), intensities(1)
    half = slice(SHAPE[0] // 2, None)
    fixed[half], moving[half] = (0.5 + 1e-3 * (intensities(seed)[half] - 0.5) for seed in (2, 3))
    value, pull = squared_correlation(fixed, moving, torch.ones(SHAPE).double(), RADIUS)
    assert float(value) > 0.99
    _, usual = squared_correlation(intensities(1), intensities(2), torch.ones(SHAPE).double(), RADIUS)
    assert pull[half][RADIUS:].abs().mean() < 0.1 * usual.abs().mean()
    for flat in (torch.full(SHAPE, 0.5).double(), 0.5 + 1e-9 * intensities(2)):
        value, pull = squared_correlation(flat, intensities(3), torch.ones(SHAPE).double(), RADIUS)
        assert torch.isfinite(value) and torch.isfinite(pull).all()
