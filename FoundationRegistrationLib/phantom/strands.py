"""Fibroglandular tissue as a mesh of thin strands in fat, as in scattered and heterogeneous breasts."""

from __future__ import annotations

import numpy as np

from .breast import BreastShape, Gland, Surface
from .implicit import Array, noise_field, smooth_max, smooth_min

_SHEETS_PER_MM = 0.9
"""Area per volume of the zero level of one `noise_field`, times its scale in mm."""
_SLOPE = 2.45
"""Root mean square of the gradient of a `noise_field`, times its scale in mm."""


class StrandGland(Gland):
    """Sheets of 1 to 3 mm where smooth noises cross zero, inside the region that solid gland would fill."""

    def __init__(self, rng: np.random.Generator, shape: BreastShape, surface: Surface, fraction: float) -> None:
        """Draw the sheets, then let them reach as far as needed to fill `fraction` of the breast's volume.

        Args:
            rng: source of all random choices.
            shape: the breast.
            surface: gives the distances to the skin and to the muscle.
            fraction: volume of fibroglandular tissue over volume of the breast.
        """
        self._half_mm = float(rng.uniform(0.6, 1.4))
        share = min(0.28 + 0.9 * fraction, 0.75)
        wanted = 4.0 * self._half_mm * _SHEETS_PER_MM / -np.log1p(-share)
        self._scale_mm = float(np.clip(wanted, 6.0, 15.0))
        self._sheets = [noise_field(rng, self._scale_mm * factor, 96) for factor in (0.9, 1.15)]
        super().__init__(rng, shape, surface, fraction)

    def distance(self, x: Array, y: Array, z: Array, skin: Array, muscle: Array) -> Array:
        """Signed distance (approximate) to the strands and ducts; arguments as in `Gland.distance`."""
        ducts = self._ducts(x, y, z)
        region = self._parenchyma(x, y, z, ducts) - np.float32(self._offset)
        first, second = (np.abs(sheet(x, y, z)) for sheet in self._sheets)
        sheet = np.minimum(0.9 * first, 1.15 * second) * np.float32(self._scale_mm / _SLOPE) - np.float32(
            self._half_mm
        )
        tissue = smooth_min(ducts - 0.2, smooth_max(sheet, region, 2.0), 1.0)
        return self._confine(tissue, x, y, z, skin, muscle)
