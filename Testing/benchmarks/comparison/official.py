"""The convexAdam package (Siebert et al., IEEE TMI 2024) with MIND, in float32 on the CPU."""

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
    """Register with the package's defaults: MIND of radius 1 and dilation 2."""
    return _registered(task, mind_radius=1)


def convex_adam_mind_of_the_paper(task: Task) -> Found:
    """Register with MIND as in the paper's appendix B, radius 3 and dilation 2, and else the package's defaults."""
    return _registered(task, mind_radius=3)


def _registered(task: Task, mind_radius: int) -> Found:
    """Register on an isotropic grid around the anatomy; the package knows no geometry."""
    grid, *arrays = pair_on_grid(task, reach_mm=_REACH_VOXELS * task.spacing_mm, multiple=_GRID_SPACING)
    voxels = convex_adam_pt(  # components (z, y, x)
        *arrays, mind_r=mind_radius, mind_d=2, dtype=torch.float32, device=torch.device("cpu")
    )
    field = grid.image(np.ascontiguousarray(voxels[..., ::-1] * grid.spacing), is_vector=True)
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
