"""Smooth warps that are known exactly, for cases made from one real volume."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import zoom

from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant

_CONTROL_POINTS = 4
_LEAST_DETERMINANT = 0.4


def drawn_warp(grid: sitk.Image, largest_mm: float, seed: int, in_plane: bool = False) -> sitk.Transform:
    """Draw a smooth displacement that fades to zero at the edges of a grid and compresses no place too much.

    Args:
        grid: where the displacement lives.
        largest_mm: length of its largest vector; less where the volume would shrink below 0.4 somewhere.
        seed: of the random numbers.
        in_plane: the same in all slices, without a component along their normal.
    """
    size = grid.GetSize()[::-1]
    drawn = np.random.default_rng(seed).uniform(-1.0, 1.0, (3, *(_CONTROL_POINTS,) * 3))
    if in_plane:
        drawn = np.broadcast_to(drawn[:, :1], drawn.shape)
    vectors = np.stack([zoom(part, np.divide(size, part.shape), order=3, grid_mode=False) for part in drawn], -1)
    windows = [np.sin(np.linspace(0.0, np.pi, count)) for count in size]
    if in_plane:
        windows[0] = np.ones(size[0])
        vectors[..., 2] = 0.0
    vectors *= windows[0][:, None, None, None] * windows[1][:, None, None] * windows[2][:, None]
    vectors = vectors @ np.reshape(grid.GetDirection(), (3, 3)).T
    vectors *= largest_mm / np.linalg.norm(vectors, axis=-1).max()
    field = _field(vectors, grid)
    while sitk.GetArrayFromImage(jacobian_determinant(field)).min() < _LEAST_DETERMINANT:
        vectors *= 0.9
        field = _field(vectors, grid)
    return sitk.DisplacementFieldTransform(field)


def _field(vectors: np.ndarray, grid: sitk.Image) -> sitk.Image:
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    field.CopyInformation(grid)
    return field
