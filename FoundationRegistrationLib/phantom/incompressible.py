"""Maps that keep every volume, each with a closed-form inverse: rigid, shear, twist, squeeze, and their chains.

The Jacobian determinant of each map is exactly 1, so a chain moves tissue as if it were incompressible, and no chain
can fold. Points are (N, 3) float64, LPS mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .implicit import Points
from .motion import Values, smooth_step


class VolumePreserving(Protocol):
    """A map and its exact inverse."""

    def forward(self, points: Points) -> Points:
        """Map points (N, 3)."""

    def inverse(self, points: Points) -> Points:
        """Undo `forward`."""


@dataclass(frozen=True)
class Chain:
    """Maps applied one after the other."""

    links: tuple[VolumePreserving, ...]

    def forward(self, points: Points) -> Points:
        """Map points (N, 3) through all links."""
        for link in self.links:
            points = link.forward(points)
        return points

    def inverse(self, points: Points) -> Points:
        """Undo `forward`."""
        for link in reversed(self.links):
            points = link.inverse(points)
        return points


@dataclass(frozen=True)
class Rigid:
    """x -> R (x - pivot) + pivot + translation."""

    rotation: NDArray[np.float64]
    pivot: NDArray[np.float64]
    translation: NDArray[np.float64]

    def forward(self, points: Points) -> Points:
        """Turn and shift."""
        return (points - self.pivot) @ self.rotation.T + self.pivot + self.translation

    def inverse(self, points: Points) -> Points:
        """Undo `forward`."""
        return (points - self.pivot - self.translation) @ self.rotation + self.pivot


@dataclass(frozen=True)
class Shear:
    """One coordinate shifts by an amount that depends on the two others.

    Attributes:
        axis: of the coordinate that shifts.
        amount: mm as a function of the two other coordinates, in the order of their axes.
    """

    axis: int
    amount: Callable[[Values, Values], Values]

    def forward(self, points: Points) -> Points:
        """Shift."""
        return self._shifted(points, 1.0)

    def inverse(self, points: Points) -> Points:
        """Undo `forward`."""
        return self._shifted(points, -1.0)

    def _shifted(self, points: Points, sign: float) -> Points:
        others = [points[:, axis] for axis in range(3) if axis != self.axis]
        moved = points.copy()
        moved[:, self.axis] += sign * self.amount(*others)
        return moved


@dataclass(frozen=True)
class Twist:
    """A rotation about an axis whose angle fades with the distance from it and along it, both of which it keeps.

    Attributes:
        axis: of the coordinate along which the axis runs.
        centre: (3,) mm.
        angle: at the centre, radians.
        radius: distance from the axis in mm where nothing turns any more; may be infinite.
        height: the same along the axis.
    """

    axis: int
    centre: NDArray[np.float64]
    angle: float
    radius: float
    height: float

    def forward(self, points: Points) -> Points:
        """Turn."""
        return self._turned(points, 1.0)

    def inverse(self, points: Points) -> Points:
        """Undo `forward`."""
        return self._turned(points, -1.0)

    def _turned(self, points: Points, sign: float) -> Points:
        first, second = (axis for axis in range(3) if axis != self.axis)
        u, v, along = (points[:, axis] - self.centre[axis] for axis in (first, second, self.axis))
        far = (u * u + v * v) / self.radius**2 + (along / self.height) ** 2
        near = np.flatnonzero(far < 1.0)
        angle = sign * self.angle * (1.0 - far[near] ** 2) ** 3
        cosine, sine, u, v = np.cos(angle), np.sin(angle), u[near], v[near]
        moved = points.copy()
        moved[near, first] = self.centre[first] + cosine * u - sine * v
        moved[near, second] = self.centre[second] + sine * u + cosine * v
        return moved


@dataclass(frozen=True)
class Squeeze:
    """One coordinate is compressed or stretched beyond a plane, and another gives way by as much.

    With y' = F(y; x) and z' = c + (z - c) / F_y(y; x) the determinant is 1, whatever x does to F: a triangular map.
    F is a hyperbola that has slope 1 behind the plane and the slope of the squeeze in front of it.

    Attributes:
        axis: of the coordinate that is squeezed.
        bulge: axis of the coordinate that gives way.
        onset: the plane, mm along `axis`.
        facing: +1 or -1, the side of the plane where tissue is squeezed.
        slopes: below 1 to compress, above 1 to stretch, on the low and the high end of `span`.
        span: mm along the third axis, between which the slope changes smoothly.
        centre: mm along `bulge`, where nothing gives way.
        bend: mm over which the slope sets in.
    """

    axis: int
    bulge: int
    onset: float
    facing: float
    slopes: tuple[float, float]
    span: tuple[float, float]
    centre: float
    bend: float = 8.0

    def forward(self, points: Points) -> Points:
        """Squeeze."""
        depth, half = self._depth(points), self._half(points)
        root = np.sqrt(depth**2 + self.bend**2)
        moved = points.copy()
        moved[:, self.axis] = self.onset + self.facing * (depth - half * (depth + root))
        moved[:, self.bulge] = self.centre + (points[:, self.bulge] - self.centre) / (
            1.0 - half * (1.0 + depth / root)
        )
        return moved

    def inverse(self, points: Points) -> Points:
        """Undo `forward`: the depth before is the root of a quadratic equation."""
        after, half = self._depth(points), self._half(points)
        rest = 1.0 - half
        scale = rest * rest - half * half
        depth = (rest * after + half * np.sqrt(after * after + scale * self.bend**2)) / scale
        root = np.sqrt(depth**2 + self.bend**2)
        moved = points.copy()
        moved[:, self.axis] = self.onset + self.facing * depth
        moved[:, self.bulge] = self.centre + (points[:, self.bulge] - self.centre) * (
            1.0 - half * (1.0 + depth / root)
        )
        return moved

    def _depth(self, points: Points) -> Values:
        return self.facing * (points[:, self.axis] - self.onset)

    def _half(self, points: Points) -> Values:
        """Half of what the slope is below 1."""
        low, high = self.slopes
        slope = low + (high - low) * smooth_step(points[:, 3 - self.axis - self.bulge], *self.span)
        return 0.5 * (1.0 - slope)
