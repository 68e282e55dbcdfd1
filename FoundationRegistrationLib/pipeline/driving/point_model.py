"""The displacement between corresponding points: a rigid map, then a Gaussian process.

Its covariance has any translation, some scaling and shear, and a smooth deformation (kriging; Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2006, chapter 2). Its mean gives the displacement between the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spatial.rigid_motion import RigidMotion

# Standard deviations: of translations; of the other parts of an affine map; of marking a point; and, of the smooth
# deformation, those that are tried, with the distance over which it changes.
_SHIFT_MM, _LINEAR, _MARKING_MM, _DEFORMATIONS_MM, _CHANGES_MM = 100.0, 0.1, 3.0, (3.0, 6.0, 12.0, 24.0), 60.0


def rigid_fit(
    fixed: NDArray[np.float64], moving: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rotation (3, 3) and translation (3,) of least squares; a translation alone if points are few."""
    centre, other = fixed.mean(0), moving.mean(0)
    size = np.linalg.svd((fixed - centre).T @ (moving - other), compute_uv=False)
    if len(fixed) < 3 or size[1] < 1e-3 * size[0] or size[0] == 0.0:
        return np.eye(3), other - centre
    rotation = RigidMotion.between(fixed, moving).rotation
    return rotation, other - rotation @ centre


def aligned(
    fixed: NDArray[np.float64], moving: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return fixed points, and what is left of their displacement after the best rigid map, in fixed space."""
    rotation, shift = rigid_fit(fixed, moving)
    return fixed, (moving - shift) @ rotation - fixed


@dataclass(frozen=True, eq=False)
class PointModel:
    """The Gaussian process of displacements (N, 3) at points (N, 3), mm."""

    points: NDArray[np.float64]
    pull: NDArray[np.float64]
    deformation_mm: float
    evidence: float

    @classmethod
    def of(cls, points: NDArray[np.float64], displacements: NDArray[np.float64]) -> PointModel:
        """Return the most probable model: that of the most probable size of the smooth deformation."""
        return max((cls._fitted(points, displacements, each) for each in _DEFORMATIONS_MM), key=lambda m: m.evidence)

    @classmethod
    def _fitted(cls, points: NDArray[np.float64], displacements: NDArray[np.float64], size: float) -> PointModel:
        around = points - points.mean(0)
        covariance = _SHIFT_MM**2 + _LINEAR**2 * around @ around.T + _covariance(points, points, size)
        covariance += _MARKING_MM**2 * np.eye(len(points))
        pull = np.linalg.solve(covariance, displacements)
        spread = 3.0 * np.linalg.slogdet(2.0 * np.pi * covariance)[1]
        return cls(points, pull, size, float(-0.5 * (spread + np.sum(displacements * pull))))

    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return matrix (3, 3) and translation (3,) of the affine part."""
        centre = self.points.mean(0)
        linear = _LINEAR**2 * ((self.points - centre).T @ self.pull).T
        return np.eye(3) + linear, _SHIFT_MM**2 * self.pull.sum(0) - linear @ centre

    def smooth(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the smooth part of the displacement (M, 3) at places (M, 3)."""
        return _covariance(places, self.points, self.deformation_mm) @ self.pull

    def at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the displacement (M, 3) at places (M, 3)."""
        linear, offset = self.affine()
        return places @ linear.T + offset - places + self.smooth(places)


def _covariance(one: NDArray[np.float64], other: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    squared = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2.0 * one @ other.T
    return size**2 * np.exp(-squared / (2.0 * _CHANGES_MM**2))
