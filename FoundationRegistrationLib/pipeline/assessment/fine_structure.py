"""Whether the fine structure of two volumes agrees after a registration, and how much better than by chance.

The outlines of two bodies agree after almost any registration, of another patient too. The pattern of glands, vessels
and organs does so only where both volumes show the same tissue in the same position. So each volume is freed of what
is coarse, and of contrast and shading, by its local mean and standard deviation, and the remainder is compared by the
squared local correlation, which does not require similar contrast. What chance gives is measured on the pair itself,
with the moving volume shifted by a few cells.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ...spatial.windows import max_around, mean_around, sum_around
from .overlaid import OCTANTS, Overlaid, octants_of

_COARSE = 4  # half-width in cells of the cubes of the local mean and standard deviation
_FINE = 2  # and of the local correlation
_FROM_THE_EDGE = 3  # cells that are left out along the edges of both foregrounds
_SHIFT = 4  # cells
_NEARBY = 6  # half-width in cells of the cubes of `above_chance_nearby`
_LEAST_CELLS = 500
# A local standard deviation below this fraction of the overall one is noise.
_LEAST_DEVIATION = 0.1
_LEAST_VARIANCE = 1e-6
_LEAST_CHANGE = 1e-4  # between neighbouring cells, of the largest along any axis
# Cells of a part of the body for a figure of its own.
_LEAST_CELLS_OF_A_PART = 300


@dataclass(frozen=True)
class FineStructure:
    """Mean squared local correlation of fine structure, 0..1.

    Attributes:
        agreement: after the registration.
        chance: with the moving volume shifted.
        one_sign: 1 where bright structures of one volume are bright in all of the other, or dark in all of it, as in
            volumes of one contrast; lower for different contrasts.
        compared: fraction of the judged foreground that was compared.
        above_chance_nearby: `above_chance` around each cell of the grid of the comparison.
        parts: `above_chance` of each octant of the compared region, such as "left front lower".
    """

    agreement: float
    chance: float
    one_sign: float
    compared: float
    above_chance_nearby: sitk.Image
    parts: dict[str, float]

    @property
    def above_chance(self) -> float:
        """The ratio of agreement to chance: 1 for unrelated volumes."""
        return self.agreement / max(self.chance, 1e-6)

    @property
    def weakest(self) -> tuple[str, float]:
        """The part with the lowest ratio, and that ratio."""
        return min(self.parts.items(), key=lambda part: part[1], default=("", self.above_chance))

    def to_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        return {
            "agreement": self.agreement,
            "chance": self.chance,
            "above_chance": self.above_chance,
            "one_sign": self.one_sign,
            "compared": self.compared,
            "parts": self.parts,
        }


def measure_fine_structure(pair: Overlaid) -> FineStructure | None:
    """Compare the fine structure of two registered volumes.

    Returns:
        None if too little is common to both.
    """
    common = pair.fixed_inside & pair.moving_inside & pair.seen
    compared, weight = _eroded(common, _FROM_THE_EDGE) & pair.judged, _eroded(common, 1).float()
    if int(compared.sum()) < _LEAST_CELLS:
        return None
    fixed, moving = (_fine(values, weight) for values in (pair.fixed, pair.moving))
    correlation = _correlation(fixed, moving, weight)
    here, chance = correlation.square(), torch.zeros_like(correlation)
    shifts = list(itertools.product(_changing_axes(pair.fixed, compared), (-_SHIFT, _SHIFT)))
    for axis, by in shifts:
        other, its_weight = (torch.roll(each, by, axis) for each in (moving, weight))
        chance += _correlation(fixed, other, weight * its_weight).square() / len(shifts)
    signed = (correlation * correlation.abs())[compared].sum() / here[compared].sum().clamp(min=1e-6)
    return FineStructure(
        agreement=float(here[compared].mean()),
        chance=float(chance[compared].mean()),
        one_sign=float(signed.abs()),
        compared=float(compared.sum() / pair.judged.sum().clamp(min=1)),
        above_chance_nearby=pair.grid.image(_nearby(here, chance, compared).cpu().numpy()),
        parts=_parts(here, chance, compared),
    )


def _changing_axes(values: torch.Tensor, inside: torch.Tensor) -> list[int]:
    """Return the axes along which a volume changes inside a mask.

    A slice made a slab does not change along its third axis: shifted along it, it agrees as well as before, which is
    not by chance.
    """
    changes = [
        float(((values - values.roll(1, axis)).abs() * (inside & inside.roll(1, axis))).max()) for axis in range(3)
    ]
    return [axis for axis in range(3) if changes[axis] > _LEAST_CHANGE * max(changes)]


def _eroded(mask: torch.Tensor, cells: int) -> torch.Tensor:
    """Return a mask without its outermost cells."""
    return max_around((~mask)[None].float(), cells)[0] < 0.5


def _fine(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return values minus their local mean, over their local standard deviation; 0 where the weight is 0."""
    count = mean_around(weight[None], _COARSE).clamp_min(1e-3)
    detail = (values - (mean_around((values * weight)[None], _COARSE) / count)[0]) * weight
    variance = (mean_around(detail.square()[None], _COARSE) / count)[0]
    overall = detail.square().sum() / weight.sum().clamp(min=1)
    return detail / variance.sqrt().clamp_min(_LEAST_DEVIATION * float(overall.sqrt()) + 1e-12)


def _correlation(one: torch.Tensor, other: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weighted correlation in a cube around each cell, -1..1, 0 without structure in either."""
    count = mean_around(weight[None], _FINE).clamp_min(1e-3)
    products = torch.stack([one, other, one * one, other * other, one * other]) * weight
    mean, other_mean, square, other_square, both = mean_around(products, _FINE) / count
    variance, other_variance = square - mean * mean, other_square - other_mean * other_mean
    found = (both - mean * other_mean) / (variance * other_variance).clamp_min(1e-12).sqrt()
    structured = (variance > _LEAST_VARIANCE) & (other_variance > _LEAST_VARIANCE)
    return torch.where(structured, found, torch.zeros_like(found)).clamp(-1.0, 1.0)


def _nearby(here: torch.Tensor, chance: torch.Tensor, compared: torch.Tensor) -> torch.Tensor:
    """Return the ratio of agreement to chance around each cell; that of all where nothing is compared nearby."""
    sums = sum_around(torch.stack([here, chance]) * compared, _NEARBY)
    overall = here[compared].mean() / chance[compared].mean().clamp(min=1e-6)
    return torch.where(sums[1] > 1e-6, sums[0] / sums[1].clamp(min=1e-6), overall)


def _parts(here: torch.Tensor, chance: torch.Tensor, compared: torch.Tensor) -> dict[str, float]:
    """Return the ratio of agreement to chance in the octants of the compared region, by name."""
    values, by_chance, inside = (each.cpu().numpy() for each in (here, chance, compared))
    octants = octants_of(np.argwhere(inside))
    found = {}
    for octant, name in enumerate(OCTANTS):
        chosen = octants == octant
        if np.count_nonzero(chosen) >= _LEAST_CELLS_OF_A_PART:
            found[name] = float(values[inside][chosen].mean() / max(by_chance[inside][chosen].mean(), 1e-6))
    return found
