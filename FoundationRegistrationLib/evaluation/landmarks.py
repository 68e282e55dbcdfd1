"""Target registration error of paired landmarks."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError


def target_registration_error(
    transform: sitk.Transform, fixed_points: ArrayLike, moving_points: ArrayLike
) -> NDArray[np.float64]:
    """Target registration error of each landmark: |T(fixed) - moving|, in mm.

    Args:
        transform: 3D transform that maps a fixed point to its moving point, LPS mm (as for ``sitk.Resample``). The
            identity gives the error before registration.
        fixed_points: (N, 3) landmarks in the fixed image, LPS mm.
        moving_points: (N, 3) the same landmarks in the moving image, LPS mm.

    Returns:
        (N,) distances in mm.

    Raises:
        InputError: the lists differ in length, are empty, are not (N, 3) finite numbers, or the transform
            is not 3D.
    """
    fixed = _points(fixed_points, "fixed")
    moving = _points(moving_points, "moving")
    if fixed.shape != moving.shape:
        msg = (
            f"There are {len(fixed)} fixed and {len(moving)} moving landmarks; give one moving landmark "
            "for each fixed landmark, in the same order."
        )
        raise InputError(msg)
    if transform.GetDimension() != 3:
        msg = f"The transform has {transform.GetDimension()} dimensions; give a 3D transform."
        raise InputError(msg)
    mapped = np.array([transform.TransformPoint(point) for point in fixed.tolist()])
    return np.linalg.norm(mapped - moving, axis=1)


def _points(points: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0 or not np.isfinite(array).all():
        msg = f"The {name} landmarks are not a list of (x, y, z) numbers in mm; give at least one such point."
        raise InputError(msg)
    return array
