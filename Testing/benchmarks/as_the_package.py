"""Our ConvexAdam doing what the official package does, to measure one beside the other."""

from __future__ import annotations

import torch

from FoundationRegistrationLib import Settings
from FoundationRegistrationLib.convex_adam import convex_adam
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.stages import Volumes, step_names
from FoundationRegistrationLib.encoders import build_encoder
from FoundationRegistrationLib.features.grid import pooled_descriptor
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.sampling import upsample


def as_the_package(fixed: torch.Tensor, moving: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    """Do with our ConvexAdam step by step what the package does.

    Args:
        fixed: (z, y, x), on the device to compute on.
        moving: the same.
        voxel_mm: edge of a voxel.

    Returns:
        The displacement (z, y, x, component) in voxels, components (z, y, x), on the same device.
    """
    settings = Settings.from_preset("convexadam")
    encoder = build_encoder(settings, fixed.device)
    quiet = Progress({"encoding": 1.0})
    features = [pooled_descriptor(encoder, side, settings.adam_grid_spacing, quiet) for side in (fixed, moving)]
    stages = stages_of(settings)
    volumes = Volumes((tuple(features),), voxel_mm, settings.adam_grid_spacing)
    found = convex_adam(volumes, stages, Progress(dict.fromkeys(step_names(stages), 1.0)))
    field = upsample(found.displacement, settings.adam_grid_spacing, fixed.shape)
    return field.permute(1, 2, 3, 0)
