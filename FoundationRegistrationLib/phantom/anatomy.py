"""One synthetic patient as a function of continuous points: tissues, targets, textures, landmarks.

Nothing here knows of voxels. Reference space: LPS mm, patient prone (see `torso`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .breast import BreastShape, Gland
from .implicit import Array, Points, noise_field, ramp, smooth_min
from .torso import SKIN_MM, WALL_MM, Torso

TARGETS = ("body", "breast", "fibroglandular", "organ", "lesion")
FAR = np.float32(60.0)
"""Distance in mm of what is not there."""


@dataclass(frozen=True)
class Tissues:
    """What the anatomy says about a set of points.

    Attributes:
        distance: tissue name to signed distance in mm (N,), in the order in which tissues are painted.
        targets: target name to mask (N,).
        coarse: smooth noise (N,) of features about 14 mm, moving with the tissue.
        fine: smooth noise (N,) of features about 3 mm, moving with the tissue.
        strands: 0..1 (N,), 1 on the fibrous sheets (Cooper's ligaments) in fat and on vessels in the lung.
    """

    distance: dict[str, Array]
    targets: dict[str, NDArray[np.bool_]]
    coarse: Array
    fine: Array
    strands: Array


def targets_of(
    distance: dict[str, Array], trunk: Array, near_breast: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Masks (N,) of the targets.

    Args:
        distance: of the tissues, as in `Tissues`.
        trunk: distance (N,) to the skin of the trunk.
        near_breast: where the breast is, inside the trunk.
    """
    breast = near_breast & (trunk < 0.0)
    return {
        "body": trunk < 0.0,
        "breast": breast,
        "fibroglandular": breast & (distance["gland"] < 0.0),
        "organ": np.minimum(distance["heart"], distance["liver"]) < 0.0,
        "lesion": breast & (distance["lesion"] < 0.0),
    }


class Anatomy:
    """A patient drawn from `rng`: two calls with equal generators give the same patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw the trunk, the breasts, their gland and the place of a lesion."""
        self.torso = Torso(rng)
        self._draw_breasts(rng)
        self.lesion_side = int(rng.integers(2))
        self._coarse, self._fine = noise_field(rng, 14.0), noise_field(rng, 3.2)
        self._sheets = noise_field(rng, 17.0), noise_field(rng, 12.0)

    def _draw_breasts(self, rng: np.random.Generator) -> None:
        """Draw the shapes of the breasts and their gland."""
        length, radius = float(rng.uniform(72.0, 92.0)), float(rng.uniform(54.0, 59.0))
        self.shapes = [BreastShape(rng, side, length, radius) for side in (1, -1)]
        self.density = float(rng.uniform(0.10, 0.40))
        self.glands = [
            Gland(rng, shape, self._skin_and_muscle, self.density * rng.uniform(0.92, 1.08)) for shape in self.shapes
        ]

    def _surfaces(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array, list[Array]]:
        """Distances to skin, muscle and rib cage, and to each breast."""
        wall, muscle, skin = self.torso.surface(x, y, z)
        breasts = []
        for shape in self.shapes:
            breast = np.full(x.shape, FAR)
            front = y < 75.0
            breast[front] = shape.distance(x[front], y[front], z[front])
            breasts.append(breast)
            skin = smooth_min(skin, breast, 24.0)
        return skin, muscle, wall, breasts

    def _skin_and_muscle(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        skin, muscle, _, _ = self._surfaces(x, y, z)
        return skin, muscle

    def __call__(self, points: Points, *, lesion: bool) -> Tissues:
        """Tissues at `points` (N, 3), reference space, with or without the lesion."""
        x, y, z = (points[:, i].astype(np.float32) for i in range(3))
        skin, muscle, wall, breasts = self._surfaces(x, y, z)
        distance = {"skin": skin, "fat": skin + np.float32(SKIN_MM)}
        gland, cyst, lump = self._breast_contents(x, y, z, skin, muscle, lesion=lesion)
        bone, cartilage = self.torso.ribs(x, y, z, wall)
        distance |= {"gland": gland, "cyst": cyst, "muscle": np.maximum(muscle, skin + np.float32(SKIN_MM))}
        # Fat planes part the rib layer from the muscles that lie on it.
        distance |= {"fascia": np.abs(wall - 0.6) - 0.7, "cartilage": cartilage}
        distance |= {"cortex": bone, "marrow": bone + 1.4}
        organs = self._organs(x, y, z, wall)
        distance |= organs
        distance["lesion"] = lump
        breast = (np.minimum(*breasts) < 5.0) & (muscle > 0.0) & (y < 36.0)
        targets = targets_of(distance, skin, breast)
        strands = self._strands(x, y, z, skin, muscle)
        return Tissues(distance, targets, self._coarse(x, y, z), self._fine(x, y, z), strands)

    def _breast_contents(
        self, x: Array, y: Array, z: Array, skin: Array, muscle: Array, *, lesion: bool
    ) -> tuple[Array, Array, Array]:
        gland, cyst, lump = (np.full(x.shape, FAR) for _ in range(3))
        for side, tissue in enumerate(self.glands):
            near = tissue.near(x, y, z) & (skin < 2.0) & (muscle > -2.0)
            p = (x[near], y[near], z[near])
            gland[near] = np.minimum(gland[near], tissue.distance(*p, skin[near], muscle[near]))
            cyst[near] = np.minimum(cyst[near], tissue.cyst_distance(*p))
            if lesion and side == self.lesion_side:
                lump[near] = tissue.lesion_distance(*p)
        return gland, cyst, lump

    def _organs(self, x: Array, y: Array, z: Array, wall: Array) -> dict[str, Array]:
        deep = wall < -WALL_MM + 4.0
        inner = self.torso.organs(x[deep], y[deep], z[deep], wall[deep])
        result = {}
        for name, values in inner.items():
            result[name] = np.full(x.shape, FAR)
            result[name][deep] = values
        return result

    def _strands(self, x: Array, y: Array, z: Array, skin: Array, muscle: Array) -> Array:
        """Thin sheets where one smooth noise crosses zero; tubes where two do, for the lung's vessels."""
        first, second = (np.abs(sheet(x, y, z)) for sheet in self._sheets)
        sheets = np.maximum(1.0 - ramp(first, 0.0, 0.16), 1.0 - ramp(second, 0.0, 0.14))
        tubes = 1.0 - ramp(np.hypot(first, second), 0.06, 0.28)
        outer = muscle > 0.0
        return np.where(outer, sheets * ramp(muscle, 0.0, 4.0) * ramp(-skin, 2.0, 6.0), tubes)

    def breast_corners(self) -> Points:
        """Points (N, 3) on the hull of the boxes around the breasts."""
        corners = []
        for shape in self.shapes:
            for a in (-1.0, 1.0):
                for b in (-1.0, 1.0):
                    rim = shape.base + a * shape.radii[0] * shape.lateral + b * shape.radii[1] * shape.vertical
                    corners.extend([rim, rim + 0.6 * shape.length * shape.axis])
            corners.append(shape.tip)
        return np.array(corners)

    def landmarks(self, rng: np.random.Generator) -> Points:
        """Candidate landmarks (N, 3): nipples, duct branch points, gland, chest wall, heart and liver."""
        named = [shape.tip - 2.0 * shape.axis for shape in self.shapes]
        for gland in self.glands:
            picks = rng.permutation(len(gland.branch_points))[:12]
            named.extend(gland.branch_points[picks])
        for shape in self.shapes:
            for depth in (0.2, 0.45, 0.7):
                offset = rng.uniform(-24.0, 24.0, 3)
                named.append(shape.base + depth * shape.length * shape.axis + offset * (1.0 - 0.5 * depth))
        for height in (-45.0, 0.0, 45.0):
            named.append(np.array([0.0, 2.0, height]))
            named.extend(np.array([side * 55.0, self._wall_y(55.0, height), height]) for side in (-1, 1))
        heart = np.array(self.torso.heart_centre)
        named.extend(heart + offset for offset in ([0.0, 0.0, 0.0], [35.0, -12.0, -20.0], [-25.0, 5.0, 15.0]))
        named.extend(np.array([x, 80.0, self.torso.dome + 15.0]) for x in (-75.0, -50.0, -25.0))
        return np.array(named)

    def _wall_y(self, x: float, z: float) -> float:
        """Where the front of the rib cage lies at (x, z)."""
        y = np.linspace(-10.0, 60.0, 281, dtype=np.float32)
        wall = self.torso.wall(np.full_like(y, x), y, np.full_like(y, z))
        return float(y[np.argmin(np.abs(wall))])
