"""Small dynamic series: contrast agent flows in while the body deforms; the motion of each frame is known."""

import dataclasses

import numpy as np
import SimpleITK as sitk
from volumes import anatomy, body_depth, empty_grid, on_grid, points_of, smooth_warp

from FoundationRegistrationLib import Series, Settings

LESION_MM = np.array([8.0, -5.0, 6.0])
MOTIONS = (0.0, 0.6, -0.5)
TIMES_S = (0.0, 60.0, 150.0)
EVEN_S = (5.0, 35.0, 65.0)


def settings(**overrides):
    """Quick ones; these volumes have no noise that would pretend motion."""
    values = {"device": "cpu", "working_spacing_mm": 4.0, "fluid_iterations": 30}
    values["motion_floor"] = 0.0
    return Settings.from_preset("dce", **{**values, "initialization": "none", **overrides})


def moved(amount):
    """Points of a frame to points of the first, of a part of `smooth_warp`."""
    return lambda points: points + amount * (smooth_warp(points) - points)


def body(grid, amount, contrast, pixel_type=sitk.sitkFloat32):
    """The body after a motion, with contrast agent in a lesion and a little everywhere."""
    points = moved(amount)(points_of(grid))
    lesion = 500.0 * np.exp(-((points - LESION_MM) ** 2).sum(1) / 60.0)
    values = anatomy(points) * (1.0 + 0.1 * contrast) + contrast * lesion
    return sitk.Cast(on_grid(values.astype(np.float32), grid), pixel_type)


def small_series(grid="oblique", pixel_type=sitk.sitkFloat32, times_s=TIMES_S):
    grid = empty_grid(grid)
    return Series(tuple(body(grid, a, k / 2, pixel_type) for k, a in enumerate(MOTIONS)), times_s)


def slice_series(direction):
    """One slice of the body in a plane, 2 mm wide, with motion along its axes; and that motion, mm, LPS."""
    axes = np.reshape(direction, (3, 3))
    grid = sitk.Image(40, 36, 1, sitk.sitkFloat32)
    grid.SetDirection(axes.ravel().tolist())
    grid.SetSpacing((2.0, 2.0, 5.0))
    grid.SetOrigin((-axes @ (39.0, 35.0, 0.0)).tolist())
    shift = axes @ (3.0, -2.0, 0.0)
    values = [anatomy(points_of(grid) + amount * shift) for amount in (0.0, 1.0)]
    return Series(tuple(on_grid(each.astype(np.float32), grid) for each in values)), shift


def inside(grid):
    """Points of the body at the voxels of a grid."""
    points = points_of(grid)
    return points[body_depth(points) > 4.0]


def with_frames(series, **frames):
    """The series with other frames, given as f0, f1, ..."""
    changed = list(series.frames)
    for name, image in frames.items():
        changed[int(name[1:])] = image
    return dataclasses.replace(series, frames=tuple(changed))
