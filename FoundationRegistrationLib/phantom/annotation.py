"""Masks as an annotator hands them out: automatic, then corrected, and never quite like the next annotator's.

Annotators agree on what a breast is and not on where it ends: at the chest wall, the axilla, the fold below it and
the midline. Their outlines waver by a millimetre or two, and single voxels of the border are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .anatomy import Tissues
from .cohort import Ranks
from .implicit import Array, GridFunction, Points, noise_field

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Annotator:
    """Where one annotator draws the borders, in mm; reference space, towards a larger mask if positive.

    Attributes:
        wall: how far into the chest muscles the breast reaches.
        back: y where it ends in the axilla.
        margin: how far beyond the breast's own curve it reaches.
        midline: half width of the gap between the breasts.
        top: z where it ends above.
        bottom: z where it ends below.
        skin: how far the outline lies inside the skin.
        gland: how generously fibroglandular tissue is drawn.
        organ: the same for heart and liver.
        heart_top: z where the heart ends and the great vessels begin.
        missed: noise; organs are missed where it is above missed_above, as automatic segmentation does in places.
        outline: noise, and outline_mm its amplitude, of the outlines of breast and organs.
        detail: noise, and detail_mm its amplitude, of the outline of fibroglandular tissue and lesion.
        slips: share of border voxels that are wrong.
    """

    wall: float
    back: float
    margin: float
    midline: float
    top: float
    bottom: float
    skin: float
    gland: float
    organ: float
    heart_top: float
    missed: GridFunction
    missed_above: float
    outline: GridFunction
    outline_mm: float
    detail: GridFunction
    detail_mm: float
    slips: float

    def __call__(self, tissues: Tissues, points: Points) -> dict[str, Mask]:
        """Masks (N,) of all targets at reference points (N, 3); "body" stays as it is."""
        x, y, z = (points[:, i].astype(np.float32) for i in range(3))
        waver = self.outline_mm * self.outline(x, y, z)
        fine = self.detail_mm * self.detail(x, y, z)
        distance = tissues.distance
        breast = self._breast(x, y, z, distance) + waver < 0.0
        lesion = distance["lesion"] + 0.5 * fine < 0.0
        breast |= lesion
        heart = np.maximum(distance["heart"], z - np.float32(self.heart_top))
        organ = np.minimum(heart, distance["liver"]) - np.float32(self.organ) + waver < 0.0
        organ &= self.missed(x, y, z) < self.missed_above
        gland = breast & (distance["gland"] - np.float32(self.gland) + fine < 0.0)
        return {
            "body": tissues.targets["body"],
            "breast": breast,
            "fibroglandular": gland,
            "organ": organ,
            "lesion": lesion,
        }

    def _breast(self, x: Array, y: Array, z: Array, distance: dict[str, Array]) -> Array:
        """Signed distance (approximate) to what this annotator calls breast."""
        parts = (
            distance["breast"] - self.margin,
            distance["skin"] + self.skin,
            -distance["muscle"] - self.wall,
            y - self.back,
            self.midline - np.abs(x),
            z - self.top,
            self.bottom - z,
        )
        result = parts[0]
        for part in parts[1:]:
            result = np.maximum(result, part.astype(np.float32))
        return result


def draw_annotator(rng: np.random.Generator, ranks: Ranks) -> Annotator:
    """Draw an annotator's habits.

    Args:
        rng: source of all random choices.
        ranks: how far annotators differ, and how much of the organs is missed.
    """
    disagreement = float(0.08 * (2.7 / 0.08) ** ranks.disagreement)
    return Annotator(
        wall=float(rng.normal(-1.0, 1.8 * disagreement)),
        back=float(rng.normal(30.0, 12.0 * disagreement)),
        margin=float(rng.normal(4.0, 4.0 * disagreement)),
        midline=float(abs(rng.normal(0.0, 7.0 * disagreement))),
        top=float(rng.normal(62.0, 13.0 * disagreement)),
        bottom=float(rng.normal(-64.0, 13.0 * disagreement)),
        skin=float(abs(rng.normal(0.0, 1.0 * disagreement))),
        gland=float(rng.normal(0.1, 0.25 * disagreement)),
        organ=float(rng.normal(0.0, 2.5 * disagreement)),
        heart_top=float(rng.normal(34.0, 10.0 * disagreement)),
        missed=noise_field(rng, 40.0, 32),
        missed_above=float(2.5 - 2.2 * ranks.missed + rng.normal(0.0, 0.2)),
        outline=noise_field(rng, 14.0),
        outline_mm=float(rng.uniform(0.6, 1.2) * (0.5 + disagreement)),
        detail=noise_field(rng, 6.0),
        detail_mm=float(rng.uniform(0.3, 0.6)),
        slips=float(rng.uniform(0.03, 0.10)),
    )


def with_slips(mask: Mask, rng: np.random.Generator, share: float) -> Mask:
    """The mask (K, J, I) with `share` of the voxels on both sides of its border changed."""
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask, border_value=1)
    return mask ^ (border & (rng.random(mask.shape) < share))
