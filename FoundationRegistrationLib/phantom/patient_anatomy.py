"""A patient as varied as patients are, and what differs between two dates.

Reference space: LPS mm, prone (see `torso`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .anatomy import FAR, Anatomy, Tissues, targets_of
from .breast import BreastShape, Gland
from .cohort import Ranks
from .implicit import Array, GridFunction, Points, ellipsoid, noise_field, smooth_max, smooth_min
from .strands import StrandGland

Ball = tuple[NDArray[np.float64], float]
"""Centre (3,) and radius in mm."""

_DENSITY_RANKS = (0.0, 0.1, 0.5, 0.9, 1.0)
_DENSITIES = (0.035, 0.075, 0.155, 0.30, 0.46)
"""Part of the breast that is fibroglandular at these ranks: the limits of BI-RADS a to d."""


@dataclass(frozen=True)
class Visit:
    """What belongs to one date and not to the patient.

    Attributes:
        lesion: the lesion is there.
        weight_mm: how much thicker the fat under the skin is than in the reference.
        involution_mm: how much further the gland's edge has withdrawn.
        change: noise, and change_mm its amplitude, by which the edge of the gland lies elsewhere.
        fold_z: level of a skin fold below each breast, left and right, as part of the breast's radius.
        fold_mm: its depth.
        dents: scars that draw the skin in.
        clips: biopsy clips, whose balls give no signal.
        elbows: (2, 3) where the arms reach to, right and left.
    """

    lesion: bool
    weight_mm: float
    involution_mm: float
    change: GridFunction
    change_mm: float
    fold_z: tuple[float, float]
    fold_mm: float
    dents: tuple[Ball, ...]
    clips: tuple[Ball, ...]
    elbows: NDArray[np.float64]


class PatientAnatomy(Anatomy):
    """A patient drawn from `rng`: small or large, dense or fatty breasts, implants or scars in a few."""

    def __init__(self, rng: np.random.Generator, ranks: Ranks) -> None:
        """Draw the patient of these ranks."""
        self._ranks = ranks
        super().__init__(rng)

    def _draw_breasts(self, rng: np.random.Generator) -> None:
        """Draw fat, breasts and gland over the range of patients."""
        self.torso.fat = float(rng.uniform(7.0, 20.0))
        self.torso.pectoral = float(rng.uniform(7.0, 13.0))
        size = self._ranks.size
        length, radius = 58.0 + 50.0 * size + rng.normal(0.0, 4.0), 49.0 + 18.0 * size + rng.normal(0.0, 1.5)
        asymmetry = rng.permutation([1.0, rng.uniform(0.72, 0.88) if rng.random() < 0.12 else 1.0])
        self.shapes = [
            BreastShape(rng, side, length * float(part), radius * float(np.sqrt(part)))
            for side, part in zip((1, -1), asymmetry, strict=True)
        ]
        self.density = float(np.interp(self._ranks.density, _DENSITY_RANKS, _DENSITIES))
        self.strands = self._ranks.strands < 0.5
        kind = StrandGland if self.strands else Gland
        self.glands = [
            kind(rng, shape, self._skin_and_muscle, self.density * rng.uniform(0.85, 1.15)) for shape in self.shapes
        ]
        self.implants = self._draw_implants(rng) if rng.random() < 0.07 else []

    def _draw_implants(self, rng: np.random.Generator) -> list[tuple[Points, tuple[float, float, float]]]:
        """Centre and radii (lateral, vertical, along the axis) of an implant behind each gland."""
        depth = rng.uniform(0.26, 0.32)
        return [
            (s.base + depth * s.length * s.axis, (0.70 * s.radii[0], 0.70 * s.radii[1], 0.85 * depth * s.length))
            for s in self.shapes
        ]

    def lesion_centre(self) -> Points:
        """The point (3,) where the lesion is or would be."""
        return self.glands[self.lesion_side].lesion[0]

    def draw_visit(self, rng: np.random.Generator, hardness: float, *, lesion: bool, treated: bool) -> Visit:
        """Draw what is particular to one date.

        Args:
            rng: source of all random choices.
            hardness: 0 to 1, how much the two dates differ.
            lesion: the lesion is there.
            treated: a biopsy or an operation may have been before this date.
        """
        shape = self.shapes[self.lesion_side]
        place, size = self.glands[self.lesion_side].lesion
        dents: list[Ball] = []
        if treated and rng.random() < 0.12:
            outside = np.array([shape.side * 1.2 * shape.radii[0], 0.0, rng.uniform(-25.0, 25.0)])
            dents.append((shape.base + 0.5 * shape.length * shape.axis + outside, float(rng.uniform(16.0, 26.0))))
        clips: list[Ball] = []
        if treated and rng.random() < 0.35:
            places = place + rng.normal(0.0, 0.5 * size, (int(rng.integers(1, 3)), 3))
            clips = [(centre, float(rng.uniform(1.5, 4.0))) for centre in places]
        raised = rng.random() < 0.6
        away = np.array([0.0, 20.0, 250.0]) if raised else np.array([0.0, 100.0, -120.0])
        reach = np.array([[side * rng.uniform(155.0, 185.0), 0.0, 0.0] for side in (-1.0, 1.0)])
        return Visit(
            lesion=lesion,
            weight_mm=float(rng.normal(0.0, 0.8 + 2.4 * hardness)),
            involution_mm=float(rng.uniform(0.0, 0.5 * hardness)),
            change=noise_field(rng, float(rng.uniform(10.0, 18.0))),
            change_mm=float((0.4 + 0.8 * hardness) * (0.6 if self.strands else 2.4)),
            fold_z=(float(rng.uniform(-0.95, -0.75)), float(rng.uniform(-0.95, -0.75))),
            fold_mm=float(rng.uniform(3.0, 9.0)) if rng.random() < 0.35 else 0.0,
            dents=tuple(dents),
            clips=tuple(clips),
            elbows=reach + away + rng.normal(0.0, 12.0, (2, 3)),
        )

    def at(self, points: Points, visit: Visit) -> Tissues:
        """Tissues at `points` (N, 3), reference space, on the date of a visit.

        Besides what is painted, `distance` has "breast" (to the outline of either breast). The target "body" is the
        trunk with the breasts, without the arms, which move by themselves.
        """
        x, y, z = (points[:, i].astype(np.float32) for i in range(3))
        skin, muscle, wall, breasts = self._surfaces(x, y, z)
        gland, cyst, lump = self._breast_contents(x, y, z, skin, muscle, lesion=visit.lesion)
        gland = gland + np.float32(visit.involution_mm) + visit.change_mm * visit.change(x, y, z)
        growth = self._growth(x, y, z, visit)
        skin = self._marked(x, y, z, skin - growth, breasts, visit)
        outline = np.minimum(*breasts) - growth
        trunk = skin
        skin, arm_muscle, arm_bone = self._with_arms(x, y, z, skin, visit)
        bone, cartilage = self.torso.ribs(x, y, z, wall)
        implant = self._implant(x, y, z)
        gland = np.maximum(gland, 2.0 - implant)
        inner = skin + np.float32(2.0)
        organs = self._organs(x, y, z, wall)
        clip = np.full(x.shape, FAR)
        for centre, radius in visit.clips:
            clip = np.minimum(clip, ellipsoid(x, y, z, tuple(centre), (radius,) * 3))
        distance = {
            "skin": skin,
            "fat": inner,
            "implant": implant,
            "gland": np.maximum(gland, inner),
            "cyst": cyst,
            "muscle": np.maximum(np.minimum(muscle, arm_muscle), inner),
            "fascia": np.abs(wall - 0.6) - 0.7,
            "cartilage": cartilage,
            "cortex": np.minimum(bone, arm_bone),
            "marrow": np.minimum(bone, arm_bone) + 1.4,
            **organs,
            "lesion": lump,
            "clip": clip,
            "breast": outline,
        }
        targets = targets_of(distance, trunk, (outline < 5.0) & (muscle > 0.0) & (y < 36.0))
        ligaments = self._strands(x, y, z, skin, muscle)
        return Tissues(distance, targets, self._coarse(x, y, z), self._fine(x, y, z), ligaments)

    def _growth(self, x: Array, y: Array, z: Array, visit: Visit) -> Array:
        """How far the skin lies outside the reference; the nipples stay at the end of their ducts."""
        growth = np.full(x.shape, np.float32(visit.weight_mm))
        for shape in self.shapes:
            square = sum((v - np.float32(c)) ** 2 for v, c in zip((x, y, z), shape.tip, strict=True))
            growth = growth * (1.0 - np.exp(-square / np.float32(2.0 * 16.0**2)))
        return growth

    def _marked(self, x: Array, y: Array, z: Array, skin: Array, breasts: list[Array], visit: Visit) -> Array:
        """The skin with its folds and scars."""
        for shape, breast, level in zip(self.shapes, breasts, visit.fold_z, strict=True):
            if visit.fold_mm:
                _, up, along = shape.local(x, y, z)
                groove = np.exp(-(((up / np.float32(shape.radii[1]) - level - 0.002 * along) / 0.05) ** 2))
                skin = skin + visit.fold_mm * groove * np.exp(-((breast / 12.0) ** 2))
        for centre, radius in visit.dents:
            skin = smooth_max(skin, -ellipsoid(x, y, z, tuple(centre), (radius,) * 3), 8.0)
        return skin

    def _with_arms(self, x: Array, y: Array, z: Array, skin: Array, visit: Visit) -> tuple[Array, Array, Array]:
        """Skin of trunk and arms, muscle and bone of the arms."""
        arm = np.full(x.shape, FAR)
        near = np.abs(x) > 95.0
        for side, elbow in zip((-1.0, 1.0), visit.elbows, strict=True):
            shoulder = np.array([side * 140.0, 95.0, 125.0])
            line = elbow - shoulder
            p = [v[near] - np.float32(c) for v, c in zip((x, y, z), shoulder, strict=True)]
            t = np.clip(
                sum(c * np.float32(v) for c, v in zip(p, line, strict=True)) / np.float32(line @ line), 0.0, 1.0
            )
            off = np.sqrt(sum((c - t * np.float32(v)) ** 2 for c, v in zip(p, line, strict=True)))
            arm[near] = np.minimum(arm[near], off - (46.0 - 10.0 * t)).astype(np.float32)
        return smooth_min(skin, arm, 18.0), arm + np.float32(9.0), arm + np.float32(32.0)

    def _implant(self, x: Array, y: Array, z: Array) -> Array:
        implant = np.full(x.shape, FAR)
        for shape, (centre, radii) in zip(self.shapes, self.implants, strict=False):
            axes = np.stack([shape.lateral, shape.vertical, shape.axis])
            (cx, cy, cz) = (float(v) for v in centre)
            implant = np.minimum(implant, ellipsoid(x, y, z, (cx, cy, cz), radii, axes))
        return implant
