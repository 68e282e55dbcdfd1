"""The convexAdam package (Siebert et al., IEEE TMI 2024) with MIND, its defaults, in float32 on the CPU."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from FoundationRegistrationLib.pipeline.preprocessing import prepare
from FoundationRegistrationLib.spatial.grids import resample_to_grid, working_grid
from FoundationRegistrationLib.spatial.points import foreground_points, transform_points

from .methods import Found, Task

_GRID_SPACING = 6  # the package's default, voxels: sizes are to be its multiples
_REACH_VOXELS = 24.0  # grid spacing times displacement half width
_MARGIN_VOXELS = 12


def convex_adam_mind(task: Task) -> Found:
    """Register on an isotropic grid around the anatomy, the moving volume resampled onto it through the start.

    The package knows no geometry, so it gets the same kind of grid as ours; the intensities are those of the volumes.
    """
    inverse = task.start.GetInverse()
    grid = working_grid(
        foreground_points(prepare(task.fixed, "auto", "fixed").foreground),
        transform_points(inverse, foreground_points(prepare(task.moving, "auto", "moving").foreground)),
        spacing_mm=task.spacing_mm,
        reach_mm=_REACH_VOXELS * task.spacing_mm,
        margin_voxels=_MARGIN_VOXELS,
        multiple=_GRID_SPACING,
    )
    arrays = [
        resample_to_grid(sitk.Cast(image, sitk.sitkFloat32), grid, transform)
        for image, transform in ((task.fixed, sitk.Transform()), (task.moving, task.start))
    ]
    voxels = convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu"))  # components (z, y, x)
    field = grid.image(np.ascontiguousarray(voxels[..., ::-1] * grid.spacing), is_vector=True)
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
