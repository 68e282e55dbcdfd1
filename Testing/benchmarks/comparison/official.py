"""The convexAdam package (Siebert et al., IEEE TMI 2024) with MIND, its defaults, in float32 on the CPU."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from .isotropic import pair_on_grid
from .methods import Found, Task

_GRID_SPACING = 6  # the package's default, voxels: sizes are to be its multiples
_REACH_VOXELS = 24.0  # grid spacing times displacement half width


def convex_adam_mind(task: Task) -> Found:
    """Register on an isotropic grid around the anatomy; the package knows no geometry."""
    grid, *arrays = pair_on_grid(task, reach_mm=_REACH_VOXELS * task.spacing_mm, multiple=_GRID_SPACING)
    voxels = convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu"))  # components (z, y, x)
    field = grid.image(np.ascontiguousarray(voxels[..., ::-1] * grid.spacing), is_vector=True)
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
