"""One breast: its shape, ducts that branch from the nipple, fibroglandular tissue, cysts and a lesion.

Reference space of `torso`: LPS mm, prone, so the breast hangs towards -y. Distances in mm, negative inside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .implicit import Array, GridFunction, Points, ellipsoid, noise_field, ramp, smooth_max, smooth_min

_STEP_MM = 1.5
_FAR_MM = 12.0

Surface = Callable[[Array, Array, Array], tuple[Array, Array]]
"""Points to distances (skin of the body, outer face of the muscle)."""


class BreastShape:
    """A hanging, teardrop-like breast with its nipple.

    Attributes:
        side: +1 for the left breast (LPS +x), -1 for the right.
        base: centre on the chest wall. tip: the nipple's base. axis: unit vector from base to tip.
        length: from base to tip in mm.
        lateral, vertical: unit vectors across the axis, to the patient's right and to her head.
    """

    def __init__(self, rng: np.random.Generator, side: int, length: float, radius: float) -> None:
        """Draw a breast of about `length` and `radius` mm, a little different from its sister."""
        self.side = side
        self.length = length * float(rng.uniform(0.95, 1.05))
        self.radii = radius * rng.uniform(0.96, 1.04, 2) * np.array([1.0, 1.06])
        self.base = np.array([side * 71.0, 10.0, 0.0]) + rng.uniform(-3.0, 3.0, 3)
        axis = np.array([side * rng.uniform(0.02, 0.16), -1.0, rng.uniform(-0.14, -0.02)])
        self.axis = axis / np.linalg.norm(axis)
        self.tip = self.base + self.axis * self.length
        across = np.cross(self.axis, [0.0, 0.0, 1.0])
        self.lateral = across / np.linalg.norm(across)
        self.vertical = np.cross(self.lateral, self.axis)
        self._relief = noise_field(rng, 45.0)
        self._fullness = float(rng.uniform(2.05, 2.45))

    def local(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Coordinates in mm along the breast's lateral, vertical (superior) and base-to-nipple axes."""
        p = [v - np.float32(c) for v, c in zip((x, y, z), self.base, strict=True)]
        rows = np.stack([self.lateral, self.vertical, self.axis]).astype(np.float32)
        a, b, s = (r[0] * p[0] + r[1] * p[1] + r[2] * p[2] for r in rows)
        return a, b, s

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance (to first order) to the skin of the breast, nipple included."""
        a, b, along = self.local(x, y, z)
        s = along * np.float32(1.0 / self.length)
        swell = 0.95 + 0.20 * ramp(s, -0.1, 0.5) * (1.0 - ramp(s, 0.45, 1.15))
        droop = 1.0 + 0.10 * ramp(s, 0.0, 0.7) * ramp(-b, -20.0, 30.0)
        ra, rb = self.radii[0] * swell, self.radii[1] * swell * droop
        u, v = a / ra, b / rb
        power = np.float32(self._fullness)
        depth = np.abs(np.where(s > 0.0, s, 0.8 * s))
        # u^2 + v^2 + s^p = 1: p > 2 makes the end rounder and fuller, as gravity does.
        q = u * u + v * v + depth**power
        slope = np.sqrt(
            (2.0 * u / ra) ** 2 + (2.0 * v / rb) ** 2 + (power * depth ** (power - 1.0) / self.length) ** 2
        )
        d = (q - 1.0) / np.maximum(slope, np.float32(0.012))
        d = d + 1.8 * self._relief(x, y, z)
        return smooth_min(d, self._nipple(x, y, z), 5.0)

    def _nipple(self, x: Array, y: Array, z: Array) -> Array:
        a, b, along = self.local(x, y, z)
        rim = np.sqrt(a * a + b * b)
        return ellipsoid(rim, along, np.zeros_like(z), (0.0, self.length + 1.0, 0.0), (5.5, 6.5, 1e3))


def _grow_ducts(
    rng: np.random.Generator, shape: BreastShape
) -> tuple[list[tuple[Points, Points, float]], Points, list[tuple[Points, float]]]:
    """Grow duct trees from the nipple towards the chest wall.

    Returns:
        Segments (start, end, radius), branch points (N, 3) and lobules (centre, radius) at the ends.
    """
    segments: list[tuple[Points, Points, float]] = []
    branches: list[Points] = []
    lobules: list[tuple[Points, float]] = []
    count = int(rng.integers(8, 12))
    turn = rng.uniform(0.0, 2.0 * np.pi)
    for tree in range(count):
        angle = turn + 2.0 * np.pi * tree / count + rng.uniform(-0.25, 0.25)
        tilt = np.deg2rad(rng.uniform(12.0, 48.0))
        radial = np.cos(angle) * shape.lateral + np.sin(angle) * shape.vertical
        heading = -np.cos(tilt) * shape.axis + np.sin(tilt) * radial
        front = [(shape.tip + 2.0 * shape.axis, heading, 0)]
        while front:
            start, heading, level = front.pop()
            length = shape.length * rng.uniform(0.13, 0.22) * 0.93**level
            end = start + length * heading
            segments.append((start, end, max(1.35 - 0.17 * level, 0.6)))
            if level == 4:
                lobules.append((end, float(rng.uniform(3.0, 7.0))))
                continue
            if level:
                branches.append(end)
            for _ in range(2 if rng.random() < 0.8 else 1):
                bent = heading + rng.normal(0.0, 0.38, 3) - 0.10 * shape.axis
                front.append((end, bent / np.linalg.norm(bent), level + 1))
    return segments, np.array(branches), lobules


class Gland:
    """Fibroglandular tissue of one breast, tabulated on a grid and continued by interpolation.

    Attributes:
        branch_points: (N, 3) duct branch points inside the breast, LPS mm in reference space.
        cysts: centres and radii in mm.
        lesion: centre and radius in mm of where a lesion would sit.
    """

    def __init__(self, rng: np.random.Generator, shape: BreastShape, surface: Surface, fraction: float) -> None:
        """Grow the gland and choose its extent so that it fills `fraction` of the breast's volume.

        Args:
            rng: source of all random choices.
            shape: the breast.
            surface: gives the distances to the skin and to the muscle, which keep the gland away.
            fraction: volume of fibroglandular tissue over volume of the breast.
        """
        self.shape = shape
        self._texture = noise_field(rng, 13.0)
        self._detail = noise_field(rng, 5.5)
        segments, branches, lobules = _grow_ducts(rng, shape)
        reach = np.array([78.0, 0.0, 82.0])
        low = np.minimum(shape.base, shape.tip) - reach - np.array([0.0, 12.0, 0.0])
        high = np.maximum(shape.base, shape.tip) + reach + np.array([0.0, 25.0, 0.0])
        axes = [np.arange(a, b, _STEP_MM, dtype=np.float32) for a, b in zip(low, high, strict=True)]
        ducts = np.full([len(a) for a in axes], _FAR_MM, np.float32)
        lobes = ducts.copy()
        for start, end, radius in segments:
            _stamp(ducts, axes, start, end, radius, blend=0.8)
        for centre, radius in lobules:
            _stamp(lobes, axes, centre, centre, radius, blend=5.0)
        origin = (float(axes[0][0]), float(axes[1][0]), float(axes[2][0]))
        self._ducts = GridFunction(ducts, origin, _STEP_MM)
        self._lobes = GridFunction(lobes, origin, _STEP_MM)
        self._low, self._high = low, high
        self._offset = 0.0
        inside, skin, muscle, cloud = self._calibrate(axes, surface, fraction)
        self._choose_landmarks(branches, surface)
        self._place_lumps(rng, cloud[inside], skin[inside], muscle[inside])

    def near(self, x: Array, y: Array, z: Array) -> NDArray[np.bool_]:
        """Which points lie in the box that holds this breast's gland."""
        box = np.ones(x.shape, bool)
        for v, low, high in zip((x, y, z), self._low, self._high, strict=True):
            box &= (v > low) & (v < high)
        return box

    def distance(self, x: Array, y: Array, z: Array, skin: Array, muscle: Array) -> Array:
        """Signed distance (approximate) to the fibroglandular tissue.

        Args:
            x: LPS mm.
            y: LPS mm.
            z: LPS mm.
            skin: distance to the body's surface at the points.
            muscle: distance to the muscle's outer face at the points.
        """
        ducts = self._ducts(x, y, z)
        tissue = smooth_min(ducts - 0.4, self._parenchyma(x, y, z, ducts) - np.float32(self._offset), 3.0)
        return self._confine(tissue, x, y, z, skin, muscle)

    def cyst_distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance to the cysts, fluid-filled."""
        d = np.full(x.shape, np.float32(_FAR_MM))
        for centre, radius in self.cysts:
            d = np.minimum(d, ellipsoid(x, y, z, tuple(centre), (radius, radius, radius)))
        return d

    def lesion_distance(self, x: Array, y: Array, z: Array, lesion: tuple[Points, float] | None = None) -> Array:
        """Signed distance to an irregular, compact lesion: `self.lesion`, or another centre and radius in mm."""
        centre, radius = lesion or self.lesion
        d = ellipsoid(x, y, z, tuple(centre), (radius, 0.88 * radius, 0.95 * radius))
        bumps = 0.13 * radius * self._detail(x, y, z)
        return d + bumps.astype(np.float32)

    def _parenchyma(self, x: Array, y: Array, z: Array, ducts: Array) -> Array:
        """Lobules and stroma around the ducts, both with an irregular edge."""
        a, b, along = self.shape.local(x, y, z)
        length = np.float32(self.shape.length)
        outward = a * np.float32(np.sign(self.shape.lateral[0]) * self.shape.side)
        # The tissue is densest in the upper outer quadrant.
        side, up = outward - 8.0, b - 5.0
        depth = length * 0.56 - along
        body = ellipsoid(side, up, depth, (0.0, 0.0, 0.0), (27.0, 25.0, 0.36 * self.shape.length))
        noise = 4.5 * self._texture(x, y, z) + 2.0 * self._detail(x, y, z)
        stroma = 0.6 * body + 0.9 * ducts + noise
        lobes = self._lobes(x, y, z) + 0.5 * noise
        return smooth_min(lobes.astype(np.float32), stroma.astype(np.float32), 4.0)

    def _confine(self, d: Array, x: Array, y: Array, z: Array, skin: Array, muscle: Array) -> Array:
        """Leave subcutaneous fat (except at the nipple) and retromammary fat free of gland."""
        tip = self.shape.tip
        to_nipple = np.sqrt((x - tip[0]) ** 2 + (y - tip[1]) ** 2 + (z - tip[2]) ** 2).astype(np.float32)
        margin = 2.5 + (5.5 + 1.3 * self._texture(z, x, y)) * ramp(to_nipple, 6.0, 30.0)
        behind = 7.0 + 2.5 * self._texture(y, z, x)
        return smooth_max(smooth_max(d, skin + margin, 3.0), behind - muscle, 3.0)

    def _calibrate(
        self, axes: list[Array], surface: Surface, fraction: float
    ) -> tuple[NDArray[np.bool_], Array, Array, Points]:
        """Set how far the parenchyma grows so that the wanted volume fraction is met."""
        grid = np.meshgrid(*(a[::2] for a in axes), indexing="ij")
        x, y, z = (g.ravel() for g in grid)
        skin, muscle = surface(x, y, z)
        inside = (skin < 0.0) & (muscle > 0.0) & (self.shape.distance(x, y, z) < 3.0)
        points = [v[inside] for v in (x, y, z, skin, muscle)]
        low, high = -25.0, 40.0
        for _ in range(18):
            self._offset = 0.5 * (low + high)
            filled = float(np.mean(self.distance(*points) < 0.0))
            low, high = (low, self._offset) if filled > fraction else (self._offset, high)
        return inside, skin, muscle, np.stack([x, y, z], axis=-1).astype(np.float64)

    def _choose_landmarks(self, branches: Points, surface: Surface) -> None:
        columns = [branches[:, i].astype(np.float32) for i in range(3)]
        skin, muscle = surface(*columns)
        self.branch_points = branches[(skin < -6.0) & (muscle > 5.0)]

    def _place_lumps(self, rng: np.random.Generator, cloud: Points, skin: Array, muscle: Array) -> None:
        """Put up to three cysts in the gland and choose where a lesion would sit, at the gland's edge."""
        columns = [cloud[:, i].astype(np.float32) for i in range(3)]
        gland = self.distance(columns[0], columns[1], columns[2], skin, muscle)
        radius = float(rng.uniform(6.5, 9.5))
        room = (skin < -radius - 7.0) & (muscle > radius + 6.0)
        ranked = np.where(room, np.abs(gland), np.float32(1e3))
        best = np.argsort(ranked, kind="stable")[: max(int(0.08 * room.sum()), 1)]
        self.lesion = (cloud[best[rng.integers(len(best))]], radius)
        deep = np.flatnonzero((gland < -2.0) & (skin < -12.0))
        self.cysts = []
        for _ in range(int(rng.integers(0, 4)) if deep.size else 0):
            centre = cloud[deep[rng.integers(deep.size)]]
            if np.linalg.norm(centre - self.lesion[0]) > radius + 8.0:
                self.cysts.append((centre, float(rng.uniform(1.8, 4.2))))


def _stamp(field: Array, axes: list[Array], start: Points, end: Points, radius: float, *, blend: float) -> None:
    """Unite a capsule from `start` to `end` with the distances in `field`, in place, near it only."""
    reach = radius + _FAR_MM
    window = []
    for axis, a, b in zip(axes, start, end, strict=True):
        first = int(np.searchsorted(axis, min(a, b) - reach))
        window.append(slice(first, max(int(np.searchsorted(axis, max(a, b) + reach)), first)))
    grid = [a[w] for a, w in zip(axes, window, strict=True)]
    p = [grid[0][:, None, None] - start[0], grid[1][None, :, None] - start[1], grid[2][None, None] - start[2]]
    line = end - start
    norm = float(line @ line)
    t = 0.0
    if norm > 0.0:
        t = np.clip((p[0] * line[0] + p[1] * line[1] + p[2] * line[2]) / norm, 0.0, 1.0)
    d = np.sqrt(sum((c - t * v) ** 2 for c, v in zip(p, line, strict=True))) - radius
    box = tuple(window)
    field[box] = smooth_min(field[box], np.minimum(d, _FAR_MM).astype(np.float32), blend)
