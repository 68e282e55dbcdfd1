"""The trunk without its breasts: chest wall, muscles, ribs, spine, lungs, heart, great vessels, liver.

Reference space: LPS mm, patient prone, x = 0 the midline, y = 0 the front of the sternum, z = 0 the level of
the breasts. Every function takes points and gives signed distances in mm, negative inside.
"""

from __future__ import annotations

import numpy as np

from .implicit import Array, ellipsoid, noise_field, ramp, smooth_max, smooth_min, superellipse

SKIN_MM = 2.0
WALL_MM = 11.0
"""Thickness of the rib layer, from pleura to the outer face of the ribs."""
_RIB_PITCH_MM = 25.0
_RIB_SLOPE = 0.45


class Torso:
    """One patient's trunk, drawn from `rng`."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw sizes within a normal adult range."""
        self.half_width = float(rng.uniform(115.0, 121.0))
        self.half_depth = float(rng.uniform(82.0, 88.0))
        self.fat = float(rng.uniform(9.0, 13.0))
        self.pectoral = float(rng.uniform(9.0, 13.0))
        self.heart_centre = tuple(np.array([26.0, 62.0, -12.0]) + rng.uniform(-4.0, 4.0, 3))
        self.heart_radii = tuple(np.array([57.0, 43.0, 40.0]) * rng.uniform(0.93, 1.05))
        self.dome = float(rng.uniform(-66.0, -58.0))
        self.rib_phase = float(rng.uniform(0.0, _RIB_PITCH_MM))
        self._relief = noise_field(rng, 38.0)
        long_axis = np.array([0.74, -0.42, -0.52])
        long_axis /= np.linalg.norm(long_axis)
        second = np.cross(long_axis, [0.0, 0.0, 1.0])
        second /= np.linalg.norm(second)
        self._heart_axes = np.stack([long_axis, second, np.cross(long_axis, second)])

    def wall(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance to the outer face of the rib cage."""
        taper: Array = 1.0 - 0.10 * ramp(z, 10.0, 150.0) - 0.03 * ramp(-z, 20.0, 150.0)
        return superellipse(
            x, y - np.float32(self.half_depth), self.half_width * taper, self.half_depth * taper, 2.35
        )

    def muscle_thickness(self, x: Array, y: Array, z: Array) -> Array:
        """Thickness in mm of the muscles on the rib cage: pectorals in front, serratus, back muscles."""
        across = np.abs(x)
        front = ramp(-y, -60.0, -15.0)
        pectoral = self.pectoral * ramp(across, 10.0, 34.0) * (1.0 - 0.75 * ramp(across, 85.0, 125.0))
        pectoral = pectoral * (0.45 + 0.55 * ramp(z, -75.0, -30.0)) * (1.0 + 0.35 * ramp(z, 20.0, 90.0))
        behind = ramp(y, 90.0, 150.0)
        back = 6.0 + 17.0 * behind * (1.0 - ramp(across, 35.0, 105.0)) * (0.7 + 0.3 * ramp(across, 0.0, 24.0))
        back = back + 5.0 * behind
        return (1.0 - front) * back + front * (0.8 + pectoral)

    def surface(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Distances to the rib cage, to the outer face of the muscles and to the skin of the trunk."""
        wall = self.wall(x, y, z)
        muscle = wall - self.muscle_thickness(x, y, z)
        across = np.abs(x)
        fat = self.fat * (0.75 + 0.5 * ramp(across, 60.0, 120.0)) + 2.2 * self._relief(x, y, z)
        return wall, muscle, muscle - np.maximum(fat, 4.0) - SKIN_MM

    def ribs(self, x: Array, y: Array, z: Array, wall: Array) -> tuple[Array, Array]:
        """Distances to bone (ribs, sternum, spine) and to the costal cartilages."""
        depth = wall + np.float32(0.5 * WALL_MM)
        phase = z - _RIB_SLOPE * y + 0.10 * np.abs(x) + self.rib_phase
        across = phase - _RIB_PITCH_MM * np.round(phase / np.float32(_RIB_PITCH_MM))
        across = across * np.float32(1.0 / np.sqrt(1.0 + _RIB_SLOPE**2))
        radial, vertical = depth / 3.8, across / 6.4
        rib = (np.sqrt(radial**2 + vertical**2) - 1.0) * np.float32(4.4)
        anterior = ramp(-y, -24.0, -8.0) * (1.0 - ramp(np.abs(x), 62.0, 78.0))
        bone = rib + 9.0 * anterior
        cartilage = rib + 0.4 + 9.0 * (1.0 - anterior)
        sternum = superellipse(x, depth, 17.0 + 4.0 * ramp(z, 20.0, 80.0), 5.6, 2.6)
        disc = np.abs(z - 27.0 * np.round(z / np.float32(27.0)) - 13.5)
        disc = np.minimum(disc, 27.0 - disc)
        back = 2.0 * self.half_depth
        vertebra = superellipse(x, y - np.float32(back - 24.0), 17.5, 14.5, 2.4)
        vertebra = smooth_max(vertebra, 2.5 - disc, 2.0)
        arch = superellipse(x, y - np.float32(back + 6.0), 19.0, 12.0, 1.3)
        canal = superellipse(x, y - np.float32(back - 3.0), 10.0, 7.5, 2.0)
        spine = np.minimum(vertebra, np.maximum(arch, -canal))
        cartilage = np.minimum(cartilage, superellipse(x, y - np.float32(back - 24.0), 17.0, 14.0, 2.4))
        return np.minimum(np.minimum(bone, sternum), spine), cartilage

    def organs(self, x: Array, y: Array, z: Array, wall: Array) -> dict[str, Array]:
        """Distances to what lies inside the pleura.

        Returns:
            "lung", "mediastinum" (fat), "abdomen" (fat), "stomach", "spleen", "liver", "oesophagus", "heart",
            "blood" (heart chambers and great vessels).
        """
        cavity = wall + np.float32(WALL_MM)
        relief = self._relief(x, y, z)
        right = np.exp(-(((x + 50.0) / 55.0) ** 2) - ((y - 82.0) / 66.0) ** 2)
        left = np.exp(-(((x - 62.0) / 48.0) ** 2) - ((y - 92.0) / 60.0) ** 2)
        dome = self.dome + 48.0 * right + 30.0 * left + 1.5 * relief
        abdomen = smooth_max((z - dome) * np.float32(0.8), cavity, 6.0)
        edge = x - 30.0 + 0.5 * (y - 70.0) + 4.0 * relief
        liver = smooth_max(smooth_max(abdomen + 2.5, edge * np.float32(0.8), 12.0), cavity + 3.0, 6.0)
        spleen = ellipsoid(x, y, z, (82.0, 128.0, self.dome - 8.0), (24.0, 36.0, 42.0)) + 1.5 * relief
        spleen = smooth_max(spleen, abdomen + 3.0, 4.0)
        stomach = ellipsoid(x, y, z, (58.0, 74.0, self.dome - 18.0), (36.0, 40.0, 40.0)) + 2.0 * relief
        stomach = smooth_max(smooth_max(stomach, abdomen + 3.0, 5.0), 4.0 - liver, 4.0)
        heart, blood = self._heart(x, y, z, cavity, abdomen)
        vessels = self._vessels(x, y, z)
        width = 15.0 + 9.0 * ramp(y, 40.0, 80.0) - 3.0 * ramp(y, 120.0, 150.0)
        mediastinum = smooth_max(np.abs(x - 3.0 - 2.0 * relief) - width, cavity, 4.0)
        mediastinum = smooth_min(smooth_min(mediastinum, heart - 4.5, 14.0), vessels - 3.0, 10.0)
        mediastinum = np.maximum(mediastinum, cavity)
        return {
            "lung": cavity,
            "mediastinum": mediastinum,
            "abdomen": np.maximum(abdomen, cavity),
            "stomach": stomach,
            "spleen": spleen,
            "liver": liver,
            "oesophagus": ellipsoid(x, y, np.zeros_like(z), (2.0, 108.0, 0.0), (8.0, 6.0, 1e3)),
            "heart": heart,
            "blood": np.minimum(blood, np.maximum(vessels, cavity)),
        }

    def _heart(self, x: Array, y: Array, z: Array, cavity: Array, abdomen: Array) -> tuple[Array, Array]:
        """Distances to the heart's outer surface and to its chambers."""
        a, b, c = self._heart_axes.astype(np.float32)
        p = [v - np.float32(w) for v, w in zip((x, y, z), self.heart_centre, strict=True)]
        along, side, up = (r[0] * p[0] + r[1] * p[1] + r[2] * p[2] for r in (a, b, c))
        r0, r1, r2 = self.heart_radii
        squeeze = 1.0 - 0.16 * along / np.float32(r0)
        heart = ellipsoid(along, side / squeeze, up / squeeze, (0.0, 0.0, 0.0), (r0, r1, r2))
        heart = smooth_max(smooth_max(heart, cavity + 5.0, 10.0), 3.0 - abdomen, 8.0)
        # `side` points to the patient's right and front: the right ventricle lies there, the left behind.
        left_ventricle = ellipsoid(along, side, up, (16.0, -13.0, 3.0), (27.0, 13.0, 14.0))
        right_ventricle = ellipsoid(along, side, up, (8.0, 22.0, 2.0), (34.0, 11.0, 25.0))
        septum = ellipsoid(along, side, up, (16.0, -13.0, 3.0), (38.0, 24.0, 26.0))
        right_ventricle = smooth_max(right_ventricle, 1.0 - septum, 3.0)
        left_atrium = ellipsoid(along, side, up, (-30.0, -14.0, 2.0), (15.0, 17.0, 20.0))
        right_atrium = ellipsoid(along, side, up, (-32.0, 20.0, -3.0), (16.0, 14.0, 20.0))
        chambers = np.minimum(np.minimum(left_ventricle, right_ventricle), np.minimum(left_atrium, right_atrium))
        return heart, np.maximum(chambers, heart + 3.0)

    def _vessels(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the aorta (both limbs), the superior vena cava and the pulmonary trunk."""
        bend = 10.0 * ramp(z, 10.0, 80.0)
        descending = np.hypot(x - 22.0, y - 122.0) - 11.5
        ascending = np.maximum(np.hypot(x + 12.0 + 0.3 * bend, y - 58.0 - 0.8 * bend) - 14.0, 8.0 - z)
        cava = np.maximum(np.hypot(x + 36.0, y - 70.0) - 9.0, 5.0 - z)
        trunk = np.maximum(np.hypot(x - 16.0, y - 52.0 - bend) - 12.5, np.abs(z - 35.0) - 30.0)
        return np.minimum(np.minimum(descending, ascending), np.minimum(cava, trunk))
