"""Small registrations: settings that take seconds, and a pair of volumes."""

import SimpleITK as sitk
from volumes import empty_grid, smooth_warp, volume

from FoundationRegistrationLib import Settings

SPACING_MM = 2.0
HALF_VOXEL_MM = SPACING_MM / 2


def settings(**overrides):
    values = {"encoder": "mind", "device": "cpu", "working_spacing_mm": SPACING_MM, "grid_spacing": 4}
    return Settings(**{**values, "initialization": "none", **overrides})


def quick(**overrides):
    """For what does not depend on accuracy."""
    return settings(**{"working_spacing_mm": 4.0, "iterations": 5, "fluid_iterations": 5, **overrides})


def array_of(image):
    return sitk.GetArrayFromImage(image)


def small_pair():
    return volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))
