"""The true motion between two acquisitions, in closed form and in both directions where that is needed.

Three spaces, all LPS mm: fixed, reference (where the anatomy is defined) and moving.

    fixed --inner--> reference --posture--> moving

`inner` is a rigid motion after smooth bumps; `posture` is the identity, or prone to supine as a chain of
one-coordinate maps, each with a closed-form inverse. So both volumes are evaluated directly, and the
displacement T(x) - x of a fixed point is known to round-off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .implicit import Points

Values = NDArray[np.float64]
_PIVOT = np.array([0.0, 60.0, 0.0])
_BEND_MM = 7.0


def smooth_step(value: Values, low: float, high: float) -> Values:
    """Twice differentiable step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * t * (t * (6.0 * t - 15.0) + 10.0)


@dataclass(frozen=True)
class Supine:
    """Prone to supine: breasts fall back on the chest (y), spread sideways (x) and slide upwards (z).

    Attributes:
        flatten: what is left of a breast's depth, 0..1.
        spread: how far the front layers widen, as a fraction of the distance from the midline.
        lift: shift in mm of the front layers towards the head.
        offset: (3,) mm, the patient's place on the other table.
    """

    flatten: float
    spread: float
    lift: float
    offset: Points

    def _chest(self, x: Values, z: Values) -> tuple[Values, Values]:
        """The y of the plane where flattening sets in, and the slope in front of it."""
        plane = -2.0 + 54.0 * (1.0 - np.exp(-((x / 117.0) ** 4)))
        near = smooth_step(150.0 - np.abs(z), 0.0, 110.0)
        return plane, 1.0 - (1.0 - self.flatten) * near

    def _front(self, y: Values) -> Values:
        return smooth_step(-y, -30.0, 28.0)

    def forward(self, points: Points) -> Points:
        """Reference (prone) points to moving (supine) points."""
        x, y, z = points.T
        plane, slope = self._chest(x, z)
        # A hyperbola: slope 1 behind the plane, `slope` in front of it, strictly increasing.
        depth = plane - y
        half = 0.5 * (1.0 - slope)
        y = plane - depth + half * (depth + np.sqrt(depth**2 + _BEND_MM**2))
        x = x * (1.0 + self.spread * self._front(y))
        z = z + self.lift * self._front(y) * smooth_step(170.0 - np.abs(x), 0.0, 60.0)
        return np.stack([x, y, z], axis=-1) + self.offset

    def inverse(self, points: Points) -> Points:
        """Moving (supine) points to reference (prone) points: exact inverse of `forward`."""
        x, y, z = (points - self.offset).T
        z = z - self.lift * self._front(y) * smooth_step(170.0 - np.abs(x), 0.0, 60.0)
        x = x / (1.0 + self.spread * self._front(y))
        plane, slope = self._chest(x, z)
        half = 0.5 * (1.0 - slope)
        # Solve e = (1 - h) d - h sqrt(d^2 + b^2) for d: the larger root of a quadratic.
        e = plane - y
        a = 1.0 - half
        q = a * a - half * half
        d = (a * e + half * np.sqrt(e * e + q * _BEND_MM**2)) / q
        return np.stack([x, plane - d, z], axis=-1)


@dataclass(frozen=True)
class Motion:
    """A smooth, fold-free map from fixed to moving points.

    Attributes:
        rotation: (3, 3). translation: (3,) mm.
        centres: (K, 3) mm, amplitudes: (K, 3) mm, widths: (K,) mm of Gaussian bumps.
        posture: prone to supine, or None.
    """

    rotation: Points
    translation: Points
    centres: Points
    amplitudes: Points
    widths: Values
    posture: Supine | None

    def reference_from_fixed(self, points: Points) -> Points:
        """Fixed points (N, 3) to reference points."""
        moved = points.copy()
        for centre, amplitude, width in zip(self.centres, self.amplitudes, self.widths, strict=True):
            square = np.sum(((points - centre) / width) ** 2, axis=-1)
            moved += np.exp(-0.5 * square)[:, None] * amplitude
        return (moved - _PIVOT) @ self.rotation.T + _PIVOT + self.translation

    def reference_from_moving(self, points: Points) -> Points:
        """Moving points (N, 3) to reference points."""
        return points if self.posture is None else self.posture.inverse(points)

    def __call__(self, points: Points) -> Points:
        """Fixed points (N, 3) to moving points: T(x)."""
        reference = self.reference_from_fixed(points)
        return reference if self.posture is None else self.posture.forward(reference)

    def fixed_from_reference(self, points: Points) -> Points:
        """Fixed points whose reference point is `points` (N, 3), by fixed-point iteration.

        Only used to choose landmarks: their moving points are then computed from the fixed ones by T.
        """
        target = (points - _PIVOT - self.translation) @ self.rotation + _PIVOT
        fixed = target.copy()
        for _ in range(60):
            moved = (self.reference_from_fixed(fixed) - _PIVOT - self.translation) @ self.rotation + _PIVOT
            fixed = fixed + target - moved
        return fixed


def rotation(angles: Values) -> Points:
    """Rotation about x, then y, then z, by `angles` in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def draw_motion(rng: np.random.Generator, *, supine: bool) -> Motion:
    """Draw the motion between two exams.

    The amplitude of each bump is small against its width, which keeps the map fold-free.

    Args:
        rng: source of all random choices.
        supine: the moving patient lies on her back; the rest of the motion is then smaller.
    """
    scale = 0.5 if supine else 1.0
    angles = np.deg2rad(rng.uniform(1.2, 3.0, 3) * rng.choice([-1.0, 1.0], 3)) * scale
    heading = rng.normal(size=3)
    translation = heading / np.linalg.norm(heading) * rng.uniform(6.0, 8.0) * scale
    bumps: list[tuple[Points, Points, float]] = []
    for side in (-1.0, 1.0):
        # Compression or stretch of the whole breast, then two local changes of shape.
        press = np.array([rng.uniform(-5.0, 5.0), rng.choice([-1.0, 1.0]) * rng.uniform(7.0, 12.0), 0.0])
        press[2] = rng.uniform(-6.0, 6.0)
        bumps.append((np.array([side * 74.0, -48.0, 0.0]) + rng.uniform(-8.0, 8.0, 3), press, 37.0))
        for _ in range(2):
            centre = np.array([side * 74.0, -35.0, 0.0]) + rng.uniform(-30.0, 30.0, 3)
            push = rng.normal(size=3)
            push *= rng.uniform(4.0, 7.0) / np.linalg.norm(push)
            bumps.append((centre, push, float(rng.uniform(26.0, 32.0))))
    breath = np.array([0.0, rng.uniform(-2.0, 2.0), rng.choice([-1.0, 1.0]) * rng.uniform(5.0, 9.0)])
    bumps.append((np.array([-20.0, 80.0, -55.0]), breath, 48.0))
    for _ in range(2):
        centre = np.array([0.0, 70.0, 0.0]) + rng.uniform(-60.0, 60.0, 3)
        bumps.append((centre, rng.uniform(-4.0, 4.0, 3), 42.0))
    posture = None
    if supine:
        posture = Supine(
            flatten=float(rng.uniform(0.38, 0.44)),
            spread=float(rng.uniform(0.21, 0.27)),
            lift=float(rng.uniform(10.0, 16.0)),
            offset=rng.uniform(-6.0, 6.0, 3),
        )
    return Motion(
        rotation=rotation(angles),
        translation=translation,
        centres=np.array([b[0] for b in bumps]),
        amplitudes=np.array([b[1] for b in bumps]) * scale,
        widths=np.array([b[2] for b in bumps]),
        posture=posture,
    )
