"""Rigid motions between corresponding points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RigidMotion:
    """y = rotation (x - center) + target, from fixed to moving points, LPS mm."""

    rotation: np.ndarray
    center: np.ndarray
    target: np.ndarray

    @classmethod
    def between(cls, fixed_points: np.ndarray, moving_points: np.ndarray) -> RigidMotion:
        """Return the motion with the least sum of squared distances between paired points (N, 3) (Kabsch 1976)."""
        center, target = fixed_points.mean(0), moving_points.mean(0)
        left, _, right = np.linalg.svd((moving_points - target).T @ (fixed_points - center))
        turn = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        return cls(left @ turn @ right, center, target)

    def forward(self, fixed_points: np.ndarray) -> np.ndarray:
        """Map fixed points (N, 3)."""
        return (fixed_points - self.center) @ self.rotation.T + self.target

    def backward(self, moving_points: np.ndarray) -> np.ndarray:
        """Map moving points (N, 3)."""
        return (moving_points - self.target) @ self.rotation + self.center
