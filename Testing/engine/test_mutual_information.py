"""Mutual information under affine maps: the value that ITK has, and a gradient that fits it, on differing grids."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import GRID_PAIRS, empty_grid, on_grid, points_of, rigid_motion, volume

from FoundationRegistrationLib.pipeline.initial_alignment.mutual_information import MutualInformation

CPU = torch.device("cpu")
CENTRE = np.array([4.0, -3.0, 2.0])


def pair(fixed_grid, moving_grid):
    """A volume and a moved one whose contrast is inverted; and the middle of the first, which stays in the second."""
    fixed = sitk.Cast(volume(empty_grid(fixed_grid), rigid_motion), sitk.sitkFloat32)
    moving = 3.0 - 0.01 * sitk.Cast(volume(empty_grid(moving_grid, (4, 1, -3))), sitk.sitkFloat32)
    middle = np.abs(points_of(fixed)).max(-1) < 24.0
    return fixed, on_grid(middle.astype(np.uint8), fixed), moving


def of_itk(fixed, mask, moving, matrix, translation):
    """ITK's estimate at all voxels of the mask."""
    transform = sitk.AffineTransform(3)
    transform.SetCenter(CENTRE.tolist())
    transform.SetMatrix(np.ravel(matrix).tolist())
    transform.SetTranslation(list(translation))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform)
    return -method.MetricEvaluate(fixed, moving)


def maps():
    random = np.random.default_rng(5)
    for size in (0.0, 0.04, 0.1):
        yield np.eye(3) + size * random.normal(size=(3, 3)), 60.0 * size * random.normal(size=3)


@pytest.mark.parametrize(("fixed_grid", "moving_grid"), GRID_PAIRS)
def test_the_value_is_that_of_itk(fixed_grid, moving_grid):
    fixed, mask, moving = pair(fixed_grid, moving_grid)
    metric = MutualInformation(fixed, mask, moving, CENTRE, 1.0, CPU)
    ours, theirs = zip(*((metric.value(*each), of_itk(fixed, mask, moving, *each)) for each in maps()), strict=True)
    assert np.ptp(theirs) > 0.08
    np.testing.assert_allclose(ours, theirs, atol=0.015)  # ITK samples the centres of voxels


@pytest.mark.parametrize(("fixed_grid", "moving_grid"), GRID_PAIRS)
def test_the_gradient_is_the_slope_of_the_value(fixed_grid, moving_grid):
    metric = MutualInformation(*pair(fixed_grid, moving_grid), CENTRE, 1.0, CPU)
    for matrix, translation in maps():
        found = metric(matrix, translation)
        slopes = [
            (metric.value(matrix, translation + step) - metric.value(matrix, translation - step)) / 0.2
            for step in 0.1 * np.eye(3)
        ]
        np.testing.assert_allclose(found.by_translation, slopes, atol=0.05 * np.abs(slopes).max() + 2e-4)
        arcs = 0.1 / metric.radius * np.eye(9).reshape(9, 3, 3)
        slopes = [
            (metric.value(matrix + step, translation) - metric.value(matrix - step, translation)) / 0.2
            for step in arcs
        ]
        np.testing.assert_allclose(
            found.by_matrix.ravel() / metric.radius, slopes, atol=0.05 * np.abs(slopes).max() + 2e-4
        )


def test_volumes_that_do_not_meet_tell_nothing_of_each_other():
    metric = MutualInformation(*pair("oblique", "sagittal"), CENTRE, 1.0, CPU)
    found = metric(np.eye(3), np.array([900.0, 0.0, 0.0]))
    assert found.value == 0.0
    assert not found.by_matrix.any()
    assert not found.by_translation.any()


def test_a_volume_of_one_value_tells_nothing():
    fixed, mask, moving = pair("RAS", "LPS")
    assert MutualInformation(fixed, mask, 0.0 * moving, CENTRE, 1.0, CPU).value(np.eye(3), np.zeros(3)) < 1e-6
    assert MutualInformation(0.0 * fixed, mask, moving, CENTRE, 1.0, CPU).value(np.eye(3), np.zeros(3)) < 1e-6
