"""A volume registered to itself stays where it is."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from stages import run
from volumes import GRIDS, empty_grid, on_grid, points_of, through, volume

from FoundationRegistrationLib import Settings, register

TOLERANCE_MM = 0.05
BASE = {"encoder": "mind", "device": "cpu", "working_spacing_mm": 4.0, "grid_spacing": 4, "feature_cache_gb": 0.0}
CHANGES = {
    "default": {},
    "longitudinal": {"preset": "longitudinal"},
    "lesion": {"preset": "lesion"},
    "cross-sequence": {"preset": "cross-sequence"},
    "few iterations": {"iterations": 5, "fluid_iterations": 3},
    "one level": {"adam_levels": 1, "iterations": 12},
    "far search": {"search_range_mm": 50.0},
    "rigid": {"initialization": "rigid"},
    "long steps": {"learning_rate": 5.0},
}


def largest_error(result, image):
    """How far any place of the volume is moved, its corners among them, mm."""
    size = np.array(image.GetSize()) - 1
    index = np.random.default_rng(1).uniform(0.0, 1.0, (400, 3))
    index[:8] = np.indices((2, 2, 2)).reshape(3, -1).T
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(each.tolist()) for each in index * size])
    return np.linalg.norm(through(result.transform, points) - points, axis=1).max()


def noisy_volume(seed):
    grid = list(GRIDS)[seed % len(GRIDS)]
    return sitk.AdditiveGaussianNoise(volume(empty_grid(grid)), 10.0 * seed, 0.0, seed + 1)


@pytest.mark.parametrize("seed", range(len(CHANGES)))
def test_a_volume_registered_to_itself_stays(seed):
    name = list(CHANGES)[seed]
    image = noisy_volume(seed)
    changes = {**BASE, **CHANGES[name]}
    result = register(image, image, Settings.from_preset(changes.pop("preset", "default"), **{**changes}))
    assert largest_error(result, image) < TOLERANCE_MM
    values, warped = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(result.warped)
    assert np.abs(values - warped).max() < 1e-3 * np.ptp(values)


def test_where_nothing_is_to_be_seen_nothing_moves():
    """A table of one value under the patient, as in CT: every displacement of it costs the same."""
    grid = empty_grid("LPS", extent_mm=(120.0, 110.0, 90.0))
    values = sitk.GetArrayFromImage(volume(grid)).ravel() * 0.3 - 80.0
    points = points_of(grid)
    values[(points[:, 1] > 40.0) | (values < -79.0)] = -1000.0
    values[(points[:, 1] > 34.0) & (points[:, 1] < 40.0)] = 900.0
    image = on_grid(values.astype(np.int16), grid)
    result = register(image, image, Settings(**BASE))
    assert result.record["fixed"]["modality"] == "ct"
    assert largest_error(result, image) < TOLERANCE_MM


def test_a_start_that_is_right_already_is_kept_by_each_stage():
    generator = torch.Generator().manual_seed(3)
    features = torch.nn.functional.avg_pool3d(torch.rand(6, 24, 24, 24, generator=generator), 3, 1, 1)
    voxels = torch.rand(48, 48, 48, generator=generator)
    settings = Settings(grid_spacing=4, iterations=9, learning_rate=3.0)
    weight = torch.zeros(24, 24, 24)
    weight[4:-4, 4:-4, 4:-4] = 1.0
    found = run(
        features,
        features,
        settings,
        voxel_mm=2.0,
        weight=weight,
        details=(features[:3], features[:3]),
        intensities=(voxels, voxels),
    )
    assert float(found.displacement.abs().max()) < 1e-4
