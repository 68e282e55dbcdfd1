"""What masks and cut-off borders do to the registration of what lies inside them."""

import numpy as np
import SimpleITK as sitk
from volumes import body_points, empty_grid, on_grid, points_of, smooth_warp, through, volume

from FoundationRegistrationLib import Settings, register

SETTINGS = Settings(encoder="mind", device="cpu", working_spacing_mm=2.0, grid_spacing=4, initialization="none")
SLIDE_MM = 14.0


def errors(result, motion, points):
    return np.linalg.norm(through(result.transform, points) - motion(points), axis=1)


def test_a_moving_volume_that_is_cut_off_leaves_what_it_shows_as_well_aligned():
    fixed = volume(empty_grid("oblique"), smooth_warp)
    moving = volume(empty_grid("LPS"))
    kept = int(0.6 * moving.GetDepth())
    cut = sitk.RegionOfInterest(moving, [moving.GetWidth(), moving.GetHeight(), kept], [0, 0, 0])
    top = cut.GetOrigin()[2] + kept * cut.GetSpacing()[2]
    points = body_points(smooth_warp)
    shown = smooth_warp(points)[:, 2] < top - 4.0
    whole, part = (errors(register(fixed, image, SETTINGS), smooth_warp, points[shown]) for image in (moving, cut))
    assert part.mean() < 1.3 * whole.mean()


def sliding(points):
    """Everything in front of a plane slides along it, against what lies behind."""
    along_z = np.array([0.0, 0.0, SLIDE_MM / 2])
    return points + np.where(points[:, 1:2] < 0.0, along_z, -along_z)


def half(image):
    """The mask of what lies in front of the plane."""
    return sitk.Cast(on_grid((points_of(image)[:, 1] < 0.0).astype(float), image), sitk.sitkUInt8)


def test_with_masks_what_slides_past_does_not_drag_the_inside():
    fixed, moving = volume(empty_grid("oblique"), sliding), volume(empty_grid("sagittal", (3, -2, 4)))
    points = body_points(sliding)
    near = points[(points[:, 1] < -2.0) & (points[:, 1] > -10.0)]
    free = errors(register(fixed, moving, SETTINGS), sliding, near)
    masked = errors(
        register(fixed, moving, SETTINGS, fixed_mask=half(fixed), moving_mask=half(moving)), sliding, near
    )
    assert masked.mean() < 0.6 * free.mean()
