"""How a patient lies in two scanners: posture, pressure of the coil, breath and table position of each visit.

Three spaces, all LPS mm: fixed, reference (where the anatomy is defined) and moving. Each visit is a chain of
volume-preserving maps from reference space, so both directions are exact and no tissue changes its volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cohort import Ranks
from .implicit import Points
from .incompressible import Chain, Rigid, Shear, Squeeze, Twist, VolumePreserving
from .motion import Values, rotation, smooth_step

_BREAST_X_MM = 72.0
_PIVOT = np.array([0.0, 20.0, 0.0])


@dataclass(frozen=True)
class PatientMotion:
    """The true motion: fixed points to moving points by way of reference space.

    Attributes:
        fixed: reference points to fixed points.
        moving: reference points to moving points.
    """

    fixed: Chain
    moving: Chain

    def __call__(self, points: Points) -> Points:
        """Fixed points (N, 3) to moving points: T(x)."""
        return self.moving.forward(self.fixed.inverse(points))

    def inverse(self, points: Points) -> Points:
        """Moving points (N, 3) to fixed points, exactly."""
        return self.fixed.forward(self.moving.inverse(points))

    def fixed_from_reference(self, points: Points) -> Points:
        """Reference points (N, 3) to fixed points."""
        return self.fixed.forward(points)


def _chest_plane(x: Values, _z: Values) -> Values:
    """The y of the front of the chest muscles."""
    return -2.0 + 54.0 * (1.0 - np.exp(-((x / 117.0) ** 4)))


def _behind_chest_plane(x: Values, z: Values) -> Values:
    return -_chest_plane(x, z)


@dataclass(frozen=True)
class _Lean:
    """A shift along z that grows with the depth of a breast, another on the right and the left: (x, y) to mm."""

    right: float
    left: float
    depth: float

    def __call__(self, x: Values, y: Values) -> Values:
        amount = self.right + (self.left - self.right) * smooth_step(x, -30.0, 30.0)
        return amount * smooth_step(-y, 0.0, self.depth)


@dataclass(frozen=True)
class _Swing:
    """A sideways shift of both breasts that grows with depth: (y, z) to mm."""

    height: float
    depth: float

    def __call__(self, y: Values, z: Values) -> Values:
        return self.height * smooth_step(-y, 0.0, self.depth) * np.exp(-((z / 130.0) ** 2))


@dataclass(frozen=True)
class _Bow:
    """The bend of the trunk along z: (x or y, z) to mm."""

    height: float
    centre: float

    def __call__(self, _other: Values, z: Values) -> Values:
        return self.height * (1.0 - np.exp(-(((z - self.centre) / 110.0) ** 2)))


@dataclass(frozen=True)
class Hill:
    """A smooth hill over an ellipse, zero outside: two coordinates to mm.

    Attributes:
        height: in the middle, mm.
        centre: in the plane, mm.
        radii: of the ellipse, mm.
    """

    height: float
    centre: tuple[float, float]
    radii: tuple[float, float]

    def __call__(self, u: Values, v: Values) -> Values:
        """Height at two coordinates in the plane."""
        far = ((u - self.centre[0]) / self.radii[0]) ** 2 + ((v - self.centre[1]) / self.radii[1]) ** 2
        return self.height * np.maximum(1.0 - far * far, 0.0) ** 3


def draw_patient_motion(rng: np.random.Generator, ranks: Ranks, *, supine: bool) -> PatientMotion:
    """Draw how the patient lies at both visits.

    Args:
        rng: source of all random choices.
        ranks: how different the visits are.
        supine: the moving patient lies on her back.
    """
    hardness = ranks.hardness
    strength = 0.45 + 2.7 * hardness**1.5
    fixed = [
        *_thorax(rng, 0.4 * strength),
        *pressed(rng, 0.35 * strength),
        table_position(rng, rng.uniform(0.0, 4.0), 2.0),
    ]
    distance = 2.0 + 58.0 * ranks.distance**2
    posture = _supine(rng) if supine else pressed(rng, strength)
    moving = [*_thorax(rng, strength), *posture, table_position(rng, distance, 2.0 + 9.0 * hardness)]
    return PatientMotion(Chain(tuple(fixed)), Chain(tuple(moving)))


def _limited(value: float, most: float) -> float:
    return float(np.clip(value, -most, most))


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice([-1.0, 1.0]))


def table_position(rng: np.random.Generator, distance: float, degrees: float) -> Rigid:
    """Another place on the table, `distance` mm away and turned: mostly along and above it, less across."""
    heading = rng.normal(size=3) * np.array([0.6, 0.8, 1.4])
    angles = np.deg2rad(np.clip(rng.normal(0.0, 0.6 * degrees, 3), -15.0, 15.0))
    return Rigid(rotation(angles), _PIVOT, distance * heading / np.linalg.norm(heading))


def _thorax(rng: np.random.Generator, strength: float) -> list[VolumePreserving]:
    """Breath, beat and the bend of the trunk."""
    heart = np.array([20.0, 68.0, -12.0]) + rng.uniform(-6.0, 6.0, 3)
    breath = _limited((0.5 + 0.5 * strength) * _sign(rng) * rng.uniform(13.0, 39.0), 32.0)
    return [
        Shear(2, Hill(breath, (0.0, 84.0), (100.0, 72.0))),
        Shear(2, Hill(_limited(strength * rng.normal(0.0, 10.0), 18.0), (-46.0, 86.0), (60.0, 60.0))),
        Twist(2, np.array([0.0, 82.0, heart[2]]), _limited(strength * rng.normal(0.0, 0.30), 0.25), 80.0, 110.0),
        Twist(0, heart, _limited(strength * rng.normal(0.0, 0.30), 0.25), 68.0, 80.0),
        Shear(1, _Bow(strength * rng.normal(0.0, 9.0), rng.uniform(-20.0, 20.0))),
        Shear(0, _Bow(strength * rng.normal(0.0, 7.0), rng.uniform(-20.0, 20.0))),
        Twist(2, np.array([0.0, 90.0, 0.0]), np.deg2rad(strength * rng.normal(0.0, 4.0)), np.inf, 260.0),
    ]


def pressed(rng: np.random.Generator, strength: float) -> list[VolumePreserving]:
    """What another coil and cushion make of the hanging breasts, in coordinates along the chest wall.

    With the same generator the same change of shape, more or less of it; none at a strength of 0.
    """
    slopes = np.exp(np.clip(strength * rng.choice([-1.0, 1.0], 2) * rng.uniform(0.12, 0.36, 2), -0.45, 0.26))
    lean = np.clip(strength * rng.choice([-1.0, 1.0], 2) * rng.uniform(6.0, 24.0, 2), -32.0, 32.0)
    maps: list[VolumePreserving] = [
        Shear(1, _behind_chest_plane),
        Squeeze(1, 2, 0.0, -1.0, (float(slopes[0]), float(slopes[1])), (-35.0, 35.0), rng.uniform(-10.0, 10.0)),
        Squeeze(
            1,
            0,
            0.0,
            -1.0,
            (float(np.exp(_limited(strength * rng.normal(0.0, 0.10), 0.12))),) * 2,
            (-90.0, 90.0),
            0.0,
        ),
        Shear(2, _Lean(float(lean[0]), float(lean[1]), 95.0)),
        Shear(0, _Swing(strength * rng.normal(0.0, 9.0), 95.0)),
    ]
    if rng.random() < 0.4:
        side = _sign(rng)
        maps.append(_coil_wall(side, float(np.exp(_limited(-strength * rng.uniform(0.2, 0.5), 0.4)))))
    for side in (-1.0, 1.0):
        breast = np.array([side * _BREAST_X_MM, -50.0, 0.0])
        maps.append(Twist(1, breast, _limited(strength * rng.normal(0.0, 0.22), 0.3), 75.0, 48.0))
        for axis in (0, 2):
            centre = breast + rng.uniform(-8.0, 8.0, 3)
            maps.append(Twist(axis, centre, _limited(strength * rng.normal(0.0, 0.36), 0.32), 46.0, 60.0))
        maps.append(
            Shear(
                1,
                Hill(
                    _limited(strength * rng.normal(0.0, 5.0), 10.0), (side * 85.0, rng.uniform(-35, 35)), (45.0, 45.0)
                ),
            )
        )
    maps.append(Shear(1, _chest_plane))
    return maps


def _coil_wall(side: float, slope: float) -> Squeeze:
    """The lateral part of one breast flattened by the coil: nothing behind the chest wall, most at the nipple."""
    return Squeeze(0, 2, side * 80.0, side, (slope, 1.0), (-45.0, 0.0), 0.0, bend=10.0)


def _supine(rng: np.random.Generator) -> list[VolumePreserving]:
    """Prone to supine: the breasts fall back along the chest wall, to the sides and towards the head."""
    sideways, along = rng.uniform(0.70, 0.78), rng.uniform(0.56, 0.64)
    lift = float(rng.uniform(8.0, 16.0))
    return [
        Shear(1, _behind_chest_plane),
        Squeeze(1, 0, 0.0, -1.0, (sideways, sideways), (-90.0, 90.0), 0.0),
        Squeeze(1, 2, 0.0, -1.0, (along, along + 0.03), (-35.0, 35.0), rng.uniform(-10.0, 10.0)),
        Shear(2, _Lean(lift, lift * rng.uniform(0.8, 1.2), 50.0)),
        Shear(0, _Swing(rng.normal(0.0, 4.0), 50.0)),
        Shear(1, _chest_plane),
    ]
