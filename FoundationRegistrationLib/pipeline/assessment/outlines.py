"""How far the outlines of two registered bodies lie apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .overlaid import OCTANTS, Overlaid, octants_of

# Cells from the edge of a field of view, where a body is cut off.
_FROM_THE_CUT = 2
_LEAST_CELLS = 50


@dataclass(frozen=True)
class OutlineDistance:
    """Median distances between the outlines of both foregrounds in the common field of view, both ways.

    Attributes:
        median_mm: over all of both outlines.
        worst_mm: in the octant of the patient where it is largest.
        worst: that octant, such as "left front upper".
    """

    median_mm: float
    worst_mm: float
    worst: str

    def to_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        return dataclasses.asdict(self)


def measure_outlines(pair: Overlaid) -> OutlineDistance | None:
    """Measure how far the outlines of both foregrounds lie apart.

    Returns:
        None if hardly any outline is in both fields of view.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt  # slow to import

    seen = pair.seen.cpu().numpy()
    inner = binary_erosion(seen, iterations=_FROM_THE_CUT)
    bodies = [_filled(mask.cpu().numpy() & seen) for mask in (pair.fixed_inside, pair.moving_inside)]
    outlines = [body & ~binary_erosion(body) & inner for body in bodies]
    if min(outline.sum() for outline in outlines) < _LEAST_CELLS:
        return None
    ways = list(zip(outlines, outlines[::-1], strict=True))
    distance = np.concatenate([distance_transform_edt(~there)[here] for here, there in ways]) * pair.grid.spacing
    cells = np.concatenate([np.argwhere(here) for here, _ in ways])
    octants = octants_of(cells)
    medians = {octant: float(np.median(distance[octants == octant])) for octant in np.unique(octants).tolist()}
    worst = max(medians, key=lambda octant: medians[octant])
    return OutlineDistance(
        median_mm=float(np.median(distance)),
        worst_mm=medians[worst],
        worst=OCTANTS[worst],
    )


def _filled(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask without the holes in its axial slices, such as the lungs."""
    from scipy.ndimage import binary_fill_holes

    return np.stack([binary_fill_holes(axial) for axial in body])
