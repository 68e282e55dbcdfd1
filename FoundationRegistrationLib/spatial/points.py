"""Points in LPS mm: of voxels, of a foreground, through a transform."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

_NEWTON_STEPS, _NEAR_MM = 30, 1e-5


def foreground_points(mask: sitk.Image) -> np.ndarray:
    """Return the extent of a mask as points, (N, 3) in LPS mm: the centres of its extreme voxels.

    Only the first and last voxel of each line along x are returned, which have the same bounding box as all voxels in
    any rotated frame.
    """
    array = sitk.GetArrayViewFromImage(mask) != 0
    lines = np.argwhere(array.any(axis=2))
    first = array.argmax(axis=2)[lines[:, 0], lines[:, 1]]
    last = array.shape[2] - 1 - array[:, :, ::-1].argmax(axis=2)[lines[:, 0], lines[:, 1]]
    ends = [np.column_stack([x, lines[:, 1], lines[:, 0]]) for x in (first, last)]
    return physical_points(mask, np.concatenate(ends))


def physical_points(image: sitk.Image, indices: np.ndarray) -> np.ndarray:
    """Map continuous indices (N, 3) in x, y, z order to LPS points (N, 3) in mm."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return np.asarray(image.GetOrigin()) + (indices * np.asarray(image.GetSpacing())) @ direction.T


def index_to_points(image: sitk.Image) -> np.ndarray:
    """Return the matrix (4, 4) from voxel indices (i, j, k) to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def positions_in(image: sitk.Image) -> np.ndarray:
    """Return the centres of all voxels, (i, j, k, 3) in LPS mm."""
    indices = np.moveaxis(np.indices(image.GetSize()[:3], dtype=np.float64), 0, -1)
    return physical_points(image, indices)


def transform_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Map points (N, 3) in LPS mm through a transform."""
    mapped = [transform.TransformPoint(point) for point in np.asarray(points, dtype=float).tolist()]
    return np.array(mapped).reshape(-1, 3)


def linear_parts(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Return the Jacobian matrices (N, 3, 3) of a transform at points (N, 3), by differences over 1 mm."""
    here = transform_points(transform, points)
    columns = [transform_points(transform, points + step) - here for step in np.eye(3)]
    return np.stack(columns, axis=-1)


def preimages(transform: sitk.Transform, points: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """Return the places (N, 3) that a transform maps to points (N, 3), by Newton's method from guesses; LPS mm."""
    places = guesses
    for _ in range(_NEWTON_STEPS):
        off = transform_points(transform, places) - points
        if np.abs(off).max() < _NEAR_MM:
            break
        places = places - np.einsum("nij,nj->ni", np.linalg.pinv(linear_parts(transform, places)), off)
    return places


def fitted_matrix(points: np.ndarray, mapped: np.ndarray) -> np.ndarray:
    """Return the matrix (3, 3) that fits a map of points (..., 3) best, after the shift of their centres."""
    rows, images = (values.reshape(-1, 3) - values.reshape(-1, 3).mean(0) for values in (points, mapped))
    return np.linalg.lstsq(rows, images, rcond=None)[0].T


def matrix_of(transform: sitk.Transform) -> list[list[float]] | None:
    """Return a linear transform as the rows of a 4 x 4 matrix, LPS mm; None if it is not linear."""
    if not transform.IsLinear():
        return None
    origin = np.zeros((1, 3))
    rows = np.hstack([linear_parts(transform, origin)[0], transform_points(transform, origin).T])
    return [*rows.tolist(), [0.0, 0.0, 0.0, 1.0]]
