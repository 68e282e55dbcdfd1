"""Both volumes on one isotropic grid, for programs that know no geometry or work on voxels of one size."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.spatial.grids import WorkingGrid, resample_to_grid, working_grid
from FoundationRegistrationLib.spatial.points import foreground_points, transform_points

from .methods import Task

_MARGIN_VOXELS = 12


def pair_on_grid(task: Task, reach_mm: float, multiple: int) -> tuple[WorkingGrid, np.ndarray, np.ndarray]:
    """Return the same kind of grid as ours, around both anatomies, and fixed and moving volume on it.

    The moving volume is resampled through the start; the intensities are those of the volumes.

    Args:
        task: what is registered.
        reach_mm: how far the program may look for a counterpart.
        multiple: the number of voxels along each axis is a multiple of it.
    """
    inverse = task.start.GetInverse()
    grid = working_grid(
        foreground_points(prepare(task.fixed, "auto", "fixed").foreground),
        transform_points(inverse, foreground_points(prepare(task.moving, "auto", "moving").foreground)),
        spacing_mm=task.spacing_mm,
        reach_mm=reach_mm,
        margin_voxels=_MARGIN_VOXELS,
        multiple=multiple,
    )
    fixed, moving = (
        resample_to_grid(sitk.Cast(image, sitk.sitkFloat32), grid, transform)
        for image, transform in ((task.fixed, sitk.Transform()), (task.moving, task.start))
    )
    return grid, fixed, moving
