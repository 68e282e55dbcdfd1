"""A patient with three lesions and the vessels of her breasts, for a series after contrast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .anatomy import FAR, Anatomy, Tissues
from .breast import BreastShape, Gland
from .implicit import Array, Points
from .uptake import CURVE_TYPES, lesion_name

_VESSELS_PER_BREAST = 2
_APART_MM = 6.0


class DynamicAnatomy:
    """Tissues of the first frame: those of an `Anatomy`, with "vessel" and a lesion for each curve type.

    One lesion lies at the edge of the gland of each breast; the third and smallest, within the gland of either.

    Attributes:
        lesions: centre (3,), LPS mm, and radius in mm of each lesion by curve type.
    """

    def __init__(self, rng: np.random.Generator, anatomy: Anatomy, tissues_at: Callable[[Points], Tissues]) -> None:
        """Place lesions and vessels.

        Args:
            rng: source of all random choices.
            anatomy: the patient.
            tissues_at: her tissues at points (N, 3) of the first frame, without a lesion.
        """
        self._tissues_at = tissues_at
        glands = anatomy.glands
        hidden = glands[int(rng.integers(len(glands)))]
        placed = [(gland, gland.lesion) for gland in glands] + [(hidden, _in_gland(rng, hidden, tissues_at))]
        types = [str(curve) for curve in rng.permutation(CURVE_TYPES)]
        self._placed = dict(zip(types, placed, strict=True))
        self.lesions = {curve: lesion for curve, (_, lesion) in self._placed.items()}
        self._vessels = [
            (gland, _draw_vessel(rng, shape))
            for gland, shape in zip(glands, anatomy.shapes, strict=True)
            for _ in range(_VESSELS_PER_BREAST)
        ]

    def __call__(self, points: Points) -> Tissues:
        """Tissues at points (N, 3); the lesions are painted over everything else."""
        tissues = self._tissues_at(points)
        x, y, z = (points[:, i].astype(np.float32) for i in range(3))
        breast = tissues.targets["breast"]
        distance, targets = dict(tissues.distance), dict(tissues.targets)
        vessel = np.full(x.shape, FAR)
        for gland, (nodes, radius) in self._vessels:
            near = breast & gland.near(x, y, z)
            vessel[near] = np.minimum(vessel[near], _tube(points[near], nodes) - np.float32(radius))
        distance["vessel"] = np.maximum(vessel, distance["skin"] + np.float32(2.0))
        targets["vessel"] = breast & (distance["vessel"] < 0.0)
        for curve, (gland, lesion) in self._placed.items():
            near = breast & gland.near(x, y, z)
            lump = np.full(x.shape, FAR)
            lump[near] = gland.lesion_distance(x[near], y[near], z[near], lesion)
            distance[lesion_name(curve)] = lump
            targets[lesion_name(curve)] = lump < 0.0
        return dataclasses.replace(tissues, distance=distance, targets=targets)


def _in_gland(
    rng: np.random.Generator, gland: Gland, tissues_at: Callable[[Points], Tissues]
) -> tuple[Points, float]:
    """The duct branch deepest in glandular tissue with room for a small lesion, away from the other lesion."""
    radius = float(rng.uniform(4.5, 6.5))
    centres = gland.branch_points
    distance = tissues_at(centres).distance
    other, other_radius = gland.lesion
    apart = np.linalg.norm(centres - other, axis=1) - radius - other_radius
    depth = np.minimum(-distance["skin"], distance["muscle"]) - radius
    lacking = np.maximum(_APART_MM - np.minimum(depth + 3.0, apart), 0.0)
    return centres[np.argmin(distance["gland"] + 100.0 * lacking)], radius


def _draw_vessel(rng: np.random.Generator, shape: BreastShape) -> tuple[Points, float]:
    """Nodes (N, 3) and radius in mm of a vessel that runs below the skin from the breast's rim towards the nipple."""
    along = np.linspace(0.05, 0.75, 9)
    angle = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.normal(0.0, 0.12, len(along)))
    reach = rng.uniform(0.6, 0.75) * np.sqrt(1.0 - along**2)
    sideways = np.outer(reach * np.cos(angle) * shape.radii[0], shape.lateral)
    upwards = np.outer(reach * np.sin(angle) * shape.radii[1], shape.vertical)
    nodes = shape.base + sideways + upwards + np.outer(along * shape.length, shape.axis)
    return nodes, float(rng.uniform(1.2, 1.8))


def _tube(points: Points, nodes: Points) -> Array:
    """Distance in mm (N,) of points to the polyline through `nodes`."""
    nearest = np.full(len(points), np.inf)
    for start, end in pairwise(nodes):
        line = end - start
        t = np.clip((points - start) @ line / (line @ line), 0.0, 1.0)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - t[:, None] * line, axis=1))
    return nearest.astype(np.float32)
