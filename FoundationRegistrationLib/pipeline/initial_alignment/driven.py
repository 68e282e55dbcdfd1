"""What given structures and points add to the mutual information that the initial alignment maximises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from ...spatial.points import physical_points
from ...spatial.sampling import sample, sample_gradient
from ..driving import Driving, DrivingPoints, StructurePair
from ..driving.structures import occupancy
from .mutual_information import Estimate

# Nats: what a point that fits is worth, and the mean squared difference of the maps of a structure.
_OF_POINTS, _OF_STRUCTURES = 1.0, 10.0
_POINT_MM = 20.0  # a point this far off is worth half
_REACH_MM = 40.0
_SPACING_MM = 5.0
_SAMPLES = 8000
_SEED = 20253


def terms_of(driving: Driving, centre: NDArray[np.float64], device: torch.device) -> list[PointTerm | StructureTerm]:
    """Return what is added to the mutual information of maps around a centre, LPS mm."""
    found: list[PointTerm | StructureTerm] = []
    if driving.points is not None:
        found.append(PointTerm(driving.points, centre))
    if driving.structures:
        found.append(StructureTerm(driving.structures, centre, device))
    return found


class PointTerm:
    """How near the mapped points are: the mean over them of 1 / (1 + (distance / 20 mm)^2), minus 1."""

    def __init__(self, points: DrivingPoints, centre: NDArray[np.float64]) -> None:
        self._around = points.fixed.points - centre
        self._wanted = points.moving.points - centre

    def __call__(self, matrix: NDArray[np.float64], translation: NDArray[np.float64]) -> Estimate:
        """Return the value at x -> matrix (x - centre) + centre + translation, and its gradient."""
        off = self._around @ matrix.T + translation - self._wanted
        near = 1.0 / (1.0 + np.square(off).sum(1) / _POINT_MM**2)
        pull = -2.0 * _OF_POINTS / len(off) / _POINT_MM**2 * np.square(near)[:, None] * off
        return Estimate(_OF_POINTS * float(near.mean() - 1.0), pull.T @ self._around, pull.sum(0), 1.0)


class StructureTerm:
    """How much the wide maps of the structures differ: the negative mean square at samples near them."""

    def __init__(
        self, structures: Sequence[StructurePair], centre: NDArray[np.float64], device: torch.device
    ) -> None:
        generator = np.random.default_rng(_SEED)
        self._centre = centre
        self._parts = []
        for pair in structures:
            fixed, moving = (_coarse(occupancy(mask, _REACH_MM)) for mask in (pair.fixed, pair.moving))
            values = sitk.GetArrayFromImage(fixed)
            near = np.argwhere(values > 0.0)
            near = near[generator.permutation(len(near))[: _SAMPLES // len(structures)]]
            points = physical_points(fixed, near[:, ::-1]) - centre
            direction = np.array(moving.GetDirection()).reshape(3, 3)
            self._parts.append(
                (
                    torch.from_numpy(points.astype(np.float32)).to(device),
                    torch.from_numpy(values[tuple(near.T)]).to(device),
                    torch.from_numpy(sitk.GetArrayFromImage(moving))[None].to(device),
                    (direction / np.asarray(moving.GetSpacing())).T[::-1],
                    np.asarray(moving.GetOrigin()),
                )
            )

    def __call__(self, matrix: NDArray[np.float64], translation: NDArray[np.float64]) -> Estimate:
        """Return the value at x -> matrix (x - centre) + centre + translation, and its gradient."""
        total, by_matrix, by_translation = 0.0, np.zeros((3, 3)), np.zeros(3)
        for points, values, moving, to_index, origin in self._parts:
            linear = torch.from_numpy((to_index @ matrix).astype(np.float32)).to(points.device)
            offset = torch.from_numpy((to_index @ (self._centre + translation - origin)).astype(np.float32))
            positions = linear @ points.T + offset.to(points.device)[:, None]
            inside = torch.ones_like(values, dtype=torch.bool)
            for along, size in zip(positions, moving.shape[1:], strict=True):
                inside &= (along > -0.5) & (along < size - 0.5)
            share = _OF_STRUCTURES / len(self._parts) / len(values)
            # Where the moving volume shows nothing, the fixed structure counts as missed.
            off = (sample(moving, positions)[0] * inside - values) * -share
            by_position = sample_gradient(moving, positions, (2.0 * off * inside)[None])
            total += float((off * off).sum()) / -share
            by_matrix += to_index.T @ (by_position @ points).cpu().numpy().astype(np.float64)
            by_translation += to_index.T @ by_position.sum(1).cpu().numpy().astype(np.float64)
        return Estimate(total, by_matrix, by_translation, 1.0)


def _coarse(image: sitk.Image) -> sitk.Image:
    """Return a smooth map on voxels of about 5 mm, or its own if they are larger."""
    steps = np.maximum(1, np.floor(_SPACING_MM / np.asarray(image.GetSpacing()))).astype(int)
    steps = np.minimum(steps, image.GetSize())
    return sitk.BinShrink(image, steps.tolist())
