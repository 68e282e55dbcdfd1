"""Initial transforms that are given, or follow from landmarks. They map fixed points to moving points, LPS mm."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...spatial.points import linear_parts, physical_points

# A given transform is checked at this many points along each axis of the fixed volume.
_CHECKED_PER_AXIS = 9
_SINGULAR = 1e-6
PLAUSIBLE_VOLUME_CHANGE = 3.0


def check_initial_transform(transform: sitk.Transform, fixed: sitk.Image) -> list[str]:
    """Check that a given transform is a valid start, and return warnings about it.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed: fixed volume, in whose space it is checked.

    Raises:
        InputError: it is no transform, not 3D, not finite, or singular.
    """
    if not isinstance(transform, sitk.Transform):
        msg = (
            f"The initial transform is a {type(transform).__name__}, not a SimpleITK transform; read a file with "
            "read_transform, or make a sitk.AffineTransform."
        )
        raise InputError(msg)
    if transform.GetDimension() != 3:
        msg = f"The initial transform is {transform.GetDimension()}D; give a 3D transform."
        raise InputError(msg)
    index = np.indices((_CHECKED_PER_AXIS,) * 3).reshape(3, -1).T / (_CHECKED_PER_AXIS - 1)
    points = physical_points(fixed, index * (np.asarray(fixed.GetSize()) - 1))
    linear = linear_parts(transform, points)
    if not (np.isfinite(linear).all() and _is_finite(transform)):
        msg = "The initial transform holds numbers that are not finite; export it again."
        raise InputError(msg)
    ratios = np.linalg.det(linear)
    if (np.abs(ratios) < _SINGULAR).all():
        msg = (
            "The initial transform is singular: it flattens the volume or shrinks it to a point, and has no "
            "inverse; give another one."
        )
        raise InputError(msg)
    if (ratios < 0).all():
        return [
            "The initial transform mirrors the volume: left and right, or another pair of sides, are swapped. This "
            "can only be right if one of the volumes is stored mirrored; check it."
        ]
    share = float(np.mean(ratios <= _SINGULAR))
    if share > 0:
        return [f"The initial transform has folds in {100 * share:.1f} % of the fixed volume; check it."]
    volume_change = float(np.median(ratios))
    if not 1 / PLAUSIBLE_VOLUME_CHANGE < volume_change < PLAUSIBLE_VOLUME_CHANGE:
        return [f"The initial transform scales the volume by a factor of {volume_change:.3g}; check its units."]
    return []


def _is_finite(transform: sitk.Transform) -> bool:
    """Whether all parameters of a transform are finite; for a field, the values of its image."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        parts = (transform.GetNthTransform(index) for index in range(transform.GetNumberOfTransforms()))
        return all(_is_finite(part) for part in parts)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()  # a view of its voxels does not keep it alive
        return bool(np.isfinite(sitk.GetArrayViewFromImage(field)).all())
    return bool(np.isfinite([*transform.GetParameters(), *transform.GetFixedParameters()]).all())


def landmark_alignment(fixed_points: np.ndarray, moving_points: np.ndarray) -> sitk.Transform:
    """Return the least-squares rigid transform of corresponding landmarks.

    Args:
        fixed_points: (N, 3) LPS mm, N at least 3, not on one line.
        moving_points: (N, 3) LPS mm.

    Raises:
        InputError: too few landmarks, or all on one line.
    """
    if len(fixed_points) != len(moving_points) or len(fixed_points) < 3:
        msg = f"Landmark alignment needs at least 3 pairs, got {len(fixed_points)}; place more landmarks."
        raise InputError(msg)
    for points in (fixed_points, moving_points):
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        if spread[1] < 1e-3 * max(spread[0], 1e-9) or spread[0] == 0:
            msg = "The landmarks are collinear or coincide; place them apart in at least two directions."
            raise InputError(msg)
    return sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), fixed_points.ravel().tolist(), moving_points.ravel().tolist()
    )
