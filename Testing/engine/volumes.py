"""Test volumes defined as functions of physical points, so that exact ground truth exists on every grid.

All points are LPS mm. A moving volume shows `anatomy(y)` at y; a fixed volume made with `motion` shows
`anatomy(motion(x))` at x, so that the transform to be found, from fixed to moving points, is `motion` itself.
"""

import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import map_coordinates

SEMI_AXES = np.array([27.0, 23.0, 30.0])
_GRID_MM = 7.0
_GRID = np.random.default_rng(7).normal(size=(24, 24, 24))

OBLIQUE = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.4, 0.0, -0.5).GetMatrix()
# Name: (direction matrix row by row, its columns are the index axes in LPS; spacing x, y, z in mm).
GRIDS = {
    "LPS": ((1, 0, 0, 0, 1, 0, 0, 0, 1), (2.0, 2.0, 2.0)),
    "RAS": ((-1, 0, 0, 0, -1, 0, 0, 0, 1), (2.0, 2.0, 2.5)),
    "LAS": ((1, 0, 0, 0, -1, 0, 0, 0, 1), (1.8, 2.0, 2.2)),
    "oblique": (OBLIQUE, (2.0, 1.7, 2.4)),
    "anisotropic": ((1, 0, 0, 0, 1, 0, 0, 0, 1), (1.0, 2.0, 4.0)),
    "sagittal": ((0, 0, 1, 1, 0, 0, 0, -1, 0), (1.5, 2.0, 3.0)),
}
# Every fixed grid meets another moving grid.
GRID_PAIRS = [
    ("LPS", "oblique"),
    ("RAS", "LAS"),
    ("LAS", "anisotropic"),
    ("oblique", "sagittal"),
    ("anisotropic", "RAS"),
    ("sagittal", "LPS"),
]


def empty_grid(name="LPS", center=(0.0, 0.0, 0.0), extent_mm=(74.0, 66.0, 80.0)):
    """Image of zeros on a named grid whose box, about as large as `extent_mm` along L, P, S, has this centre."""
    direction, spacing = GRIDS[name]
    matrix = np.array(direction, dtype=float).reshape(3, 3)
    size = np.ceil(np.abs(matrix.T) @ np.asarray(extent_mm) / np.asarray(spacing)).astype(int)
    image = sitk.Image(size.tolist(), sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(matrix.ravel().tolist())
    half = matrix @ ((size - 1) / 2 * np.asarray(spacing))
    image.SetOrigin((np.asarray(center) - half).tolist())
    return image


def points_of(image):
    """Centres of all voxels, (N, 3), in the order of the array."""
    size = image.GetSize()
    index = np.indices(size[::-1]).reshape(3, -1)[::-1].T
    matrix = np.array(image.GetDirection()).reshape(3, 3)
    return np.asarray(image.GetOrigin()) + (index * np.asarray(image.GetSpacing())) @ matrix.T


def on_grid(values, grid):
    """Image of one value a voxel, in the order of `points_of`."""
    result = sitk.GetImageFromArray(np.asarray(values).reshape(grid.GetSize()[::-1]))
    result.CopyInformation(grid)
    return result


def body_depth(points):
    """Roughly how far inside the body's surface each point lies, mm; negative outside. It has no symmetry."""
    bump = 5.0 * np.exp(-((points - [17.0, -15.0, 12.0]) ** 2).sum(1) / 128.0)
    return (1.0 - np.linalg.norm(points / SEMI_AXES, axis=1)) * SEMI_AXES.mean() + bump


def anatomy(points):
    """Intensity of a textured body in air, about 0 to 700."""
    position = points.T / _GRID_MM + (_GRID.shape[0] - 1) / 2
    texture = map_coordinates(_GRID, position, order=3, mode="nearest")
    return (400.0 + 150.0 * texture).clip(50.0, 900.0) / (1.0 + np.exp(-body_depth(points) / 0.7))


def volume(grid, motion=None, offset=(0.0, 0.0, 0.0)):
    """Float32 volume of the anatomy on a grid, moved: at x it shows anatomy(motion(x - offset))."""
    points = points_of(grid) - np.asarray(offset)
    return on_grid(anatomy(points if motion is None else motion(points)).astype(np.float32), grid)


def write_labelled_pair(folder):
    """Write an oblique and an anisotropic volume, a warp apart, and their bodies: today, before, *_labels (.nrrd)."""
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    images = {
        "today": volume(fixed, smooth_warp),
        "before": volume(moving),
        "today_labels": on_grid((body_depth(smooth_warp(points_of(fixed))) > 0).astype(np.uint8), fixed),
        "before_labels": on_grid((body_depth(points_of(moving)) > 0).astype(np.uint8), moving),
    }
    for name, image in images.items():
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))


def body_points(motion=None, step_mm=4.0):
    """Fixed points inside the body that `motion` (fixed to moving points) carries to the anatomy, (N, 3)."""
    axis = np.arange(-42.0, 42.1, step_mm)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return points[body_depth(points if motion is None else motion(points)) > 0]


def smooth_warp(points):
    """x + u(x) with u up to about 8 mm, different along each axis, and free of folding."""
    x, y, z = (points / 120.0 * 2 * np.pi).T
    u = np.stack([4.0 * np.sin(y + 0.4) + 2.0, 3.0 * np.cos(z - 0.3) - 4.0, 3.0 * np.sin(0.7 * x + y)], 1)
    return points + u


def rigid_motion(points):
    """Rotation about two axes and translation; see `rigid_transform`."""
    return through(rigid_transform(), points)


def rigid_transform():
    """Transform of `rigid_motion`."""
    return sitk.Euler3DTransform((2.0, -3.0, 1.0), 0.12, -0.05, 0.17, (5.0, -4.0, 3.0))


def through(transform, points):
    """Map points (N, 3) one by one with SimpleITK."""
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def mean_error(transform, motion, points):
    """Mean distance in mm between where a transform and the true motion bring the points."""
    return float(np.linalg.norm(through(transform, points) - motion(points), axis=1).mean())


def field_transform(motion=smooth_warp, name="oblique", center=(0.0, 0.0, 0.0)):
    """Displacement field transform of `field_image`."""
    return sitk.DisplacementFieldTransform(field_image(motion, name, center))


def field_image(motion=smooth_warp, name="oblique", center=(0.0, 0.0, 0.0)):
    """Displacement w(x) (motion(x) - x) on a 4 mm grid, w fading to zero at its border.

    An image that a transform gives out shares the memory of that transform, and must not outlive it.
    """
    grid = empty_grid(name, center, (150.0, 150.0, 150.0))
    grid = sitk.Shrink(grid, [max(1, round(4.0 / s)) for s in grid.GetSpacing()])
    points = points_of(grid)
    local = points - np.asarray(center)
    fade = (0.5 + 0.5 * np.cos(np.pi * (np.linalg.norm(local, axis=1) / 40.0 - 0.6).clip(0, 1)))[:, None]
    array = (fade * (motion(local) - local)).reshape(*grid.GetSize()[::-1], 3)
    field = sitk.GetImageFromArray(array, isVector=True)
    field.CopyInformation(grid)
    return sitk.Cast(field, sitk.sitkVectorFloat64)


def initial_transforms():
    """One transform, fixed to moving points, of every kind a user may give."""
    affine = sitk.AffineTransform(3)
    affine.Rotate(0, 1, 0.1)
    affine.Scale((1.03, 0.98, 1.0))
    affine.SetTranslation((2.0, 1.0, -3.0))
    far = (120.0, -80.0, 60.0)
    return {
        "rigid": rigid_transform(),
        "affine": affine,
        "linear composite": sitk.CompositeTransform([rigid_transform(), affine]),
        "field": field_transform(),
        "field after rigid": sitk.CompositeTransform([field_transform(), rigid_transform()]),
        "field before rigid": sitk.CompositeTransform([rigid_transform(), field_transform()]),
        "field far away, after a translation": sitk.CompositeTransform(
            [field_transform(center=far), sitk.TranslationTransform(3, far)]
        ),
        "nested": sitk.CompositeTransform(
            [
                rigid_transform(),
                sitk.CompositeTransform([field_transform(), sitk.TranslationTransform(3, (3, 0, -2))]),
            ]
        ),
    }


def assert_readable(error):
    """A message for a clinician: one line, a whole sentence, and no trace of an exception of another library."""
    message = str(error.value)
    assert "\n" not in message
    assert 20 < len(message) < 250
    assert message.endswith(".")
    assert "itk::" not in message


def noise(seed, *shape):
    """Tensor of values in 0..1, the same for the same seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
