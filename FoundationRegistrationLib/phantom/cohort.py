"""Where a pair stands among all pairs: how hard, how far apart, how dense.

Ranks come from Latin hypercubes of ten seeds, 0 to 9, 10 to 19 and so on, which cover the range of each rank evenly:
so a small cohort is much like a large one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

_BLOCK = 10


@dataclass(frozen=True)
class Ranks:
    """Ranks from 0 to 1 in the population.

    Attributes:
        hardness: of the change of shape between the dates.
        distance: between the two positions on the table.
        disagreement: between the annotators.
        missed: how much of the organs the automatic segmentation misses.
        density: of the breasts.
        strands: below one half, the gland is a mesh of strands.
        size: of the breasts.
    """

    hardness: float
    distance: float
    disagreement: float
    missed: float
    density: float
    strands: float
    size: float


def draw_ranks(seed: int, stream: int) -> Ranks:
    """The ranks of a seed; `stream` tells the tasks apart."""
    block, place = divmod(seed, _BLOCK)
    rng = np.random.default_rng([block, stream])
    ranks = []
    for _ in fields(Ranks):
        stratum = rng.permutation(_BLOCK)[place]
        ranks.append(float((stratum + rng.random(_BLOCK)[place]) / _BLOCK))
    return Ranks(*ranks)
