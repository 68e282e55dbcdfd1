"""Where an alignment may start: all shifts, for some rotations, ranked by mutual information on coarse volumes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from ...spatial.points import physical_points

# In parts of the root mean square distance of the samples from the centre: shifts from one to the next, and the
# distance within which two candidates lead to the same place.
_STEP, _APART = 0.18, 0.4
_STEPS = 6  # to either side of the shift that brings the centres of the foregrounds together
_ANGLES = np.deg2rad([-25.0, 25.0])  # about each axis in turn, and none
_SAMPLES = 1000
_BINS = 10
_SEED = 20252
_SHIFTS_AT_ONCE = 64


def candidate_starts(
    fixed: sitk.Image,
    mask: sitk.Image,
    moving: sitk.Image,
    centre: NDArray[np.float64],
    between: NDArray[np.float64],
    count: int,
    advance: Callable[[float], None],
    device: torch.device,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the likeliest rotations and translations, the best first.

    They are ranked by mutual information times the number of samples inside the moving volume, so that a small
    overlap which agrees by chance does not win.

    Args:
        fixed: coarse fixed volume, float32 from 0 to 1.
        mask: not zero where samples are drawn, on its grid.
        moving: coarse moving volume, float32 from 0 to 1.
        centre: of rotations, LPS mm.
        between: the translation around which others are tried, LPS mm.
        count: how many are returned at most.
        advance: told the completed fraction; ends the search by an exception if the run is cancelled.
        device: where tensors live.

    Returns:
        Angles (3,) about x, y and z, of which at most one is not 0, in radians; translation (3,) in LPS mm.
    """
    voxels = np.argwhere(sitk.GetArrayViewFromImage(mask))
    generator = np.random.default_rng(_SEED)
    chosen = voxels[np.sort(generator.choice(len(voxels), min(_SAMPLES, len(voxels)), replace=False))]
    points = physical_points(fixed, chosen[:, ::-1]) - centre
    in_bins = torch.from_numpy(_binned(sitk.GetArrayViewFromImage(fixed)[tuple(chosen.T)])).to(device)
    table = _OneHot(moving, device)

    radius = float(np.sqrt(np.square(points).sum(1).mean()))
    steps = _STEP * radius * np.arange(-_STEPS, _STEPS + 1)
    shifts = between + np.array(list(itertools.product(steps, repeat=3)))
    angles = [np.zeros(3), *(angle * axis for axis in np.eye(3) for angle in _ANGLES)]
    scores = []
    for number, each in enumerate(angles):
        advance(number / len(angles))
        turned = points @ rotation(each).T
        scores.append(table.evidence(in_bins, turned + centre, shifts).reshape(-1))
    ranked = torch.cat(scores).cpu().numpy()
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for at in np.argsort(-ranked, kind="stable")[: 40 * count]:
        new = angles[at // len(shifts)], shifts[at % len(shifts)]
        if all(_distance(new, other, radius) > _APART * radius for other in found):
            found.append(new)
            if len(found) == count:
                break
    return found


def rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix of `Euler3DTransform`: about y, then x, then z."""
    euler = sitk.Euler3DTransform()
    euler.SetRotation(*np.asarray(angles).tolist())
    return np.array(euler.GetMatrix()).reshape(3, 3)


def _distance(
    one: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: tuple[NDArray[np.float64], NDArray[np.float64]],
    radius: float,
) -> float:
    return float(np.hypot(np.linalg.norm(one[1] - other[1]), radius * np.linalg.norm(one[0] - other[0])))


def _binned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values of 0 to 1, (N,), as weights of the bins around them, (N, bins)."""
    places = np.clip(values.reshape(-1, 1), 0.0, 1.0) * (_BINS - 1)
    return np.maximum(1.0 - np.abs(places - np.arange(_BINS)), 0.0).astype(np.float32)


class _OneHot:
    """The bins of all voxels of the moving volume, and none beyond it."""

    def __init__(self, moving: sitk.Image, device: torch.device) -> None:
        values = _binned(sitk.GetArrayFromImage(moving))
        self._rows = torch.from_numpy(np.vstack([values, np.zeros((1, _BINS), np.float32)])).to(device)
        direction = np.array(moving.GetDirection()).reshape(3, 3)
        self._to_index = (direction / np.asarray(moving.GetSpacing())).T
        self._origin = np.asarray(moving.GetOrigin())
        self._size = moving.GetSize()

    def evidence(
        self, in_bins: torch.Tensor, points: NDArray[np.float64], shifts: NDArray[np.float64]
    ) -> torch.Tensor:
        """Return the information of all samples (C,) at each shift (C, 3) of the points (N, 3), LPS mm."""
        device = in_bins.device
        base = torch.from_numpy(((points - self._origin) @ self._to_index.T + 0.5).astype(np.float32)).to(device)
        moves = torch.from_numpy((shifts @ self._to_index.T).astype(np.float32)).to(device)
        parts = []
        for some in moves.split(_SHIFTS_AT_ONCE):
            rows = torch.zeros((len(some), len(base)), device=device)
            inside = torch.ones_like(rows, dtype=torch.bool)
            for axis in (2, 1, 0):
                along = (base[:, axis] + some[:, axis, None]).floor()
                inside &= (along >= 0) & (along < self._size[axis])
                rows = rows * self._size[axis] + along
            rows = torch.where(inside, rows, float(len(self._rows) - 1)).long()
            joint = in_bins.T @ self._rows[rows]
            parts.append(_evidence(joint))
        return torch.cat(parts)


def _evidence(joint: torch.Tensor) -> torch.Tensor:
    """Return the mutual information of joint histograms (C, bins, bins) times their number of samples, (C,)."""
    count = joint.sum((1, 2)).clamp(min=1.0)
    expected = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True) / count[:, None, None]
    filled = joint > 0
    return (joint * torch.where(filled, joint / expected.clamp(min=1e-12), 1.0).log()).sum((1, 2))
