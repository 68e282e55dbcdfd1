"""The discrete search: all displacements within range, coarse to fine, in both directions.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import SettingsError
from ..features import pool
from ..runtime.progress import Progress
from ..spatial.sampling import compose_displacements, upsample, warp
from .cost_volume import candidate_displacements, cost_volume
from .coupled_convex import coupled_convex
from .inverse_consistency import make_inverse_consistent
from .point_pairs import PointPairs
from .stages import Found, Stage, Volumes


@dataclass(frozen=True)
class DiscreteSearch:
    """Stage: exhaustive search of displacements by the squared difference of features.

    Attributes:
        spacing: of the finest search grid, working voxels; a multiple of the cells of the features.
        half_width: search steps to either side of zero at each level.
        range_mm: largest displacement of a coarse-to-fine search; 0 searches at one level.
        inverse_consistency_iterations: iterations that make both directions consistent; 0 searches forward only.
    """

    spacing: int = 6
    half_width: int = 4
    range_mm: float = 0.0
    inverse_consistency_iterations: int = 15

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the result of each encoder alone; see `Stage`.

        Raises:
            SettingsError: the spacing is not a multiple of the cells of the features.
        """
        if self.spacing % volumes.spacing:
            msg = f"The discrete search has a spacing of {self.spacing}; choose a multiple of {volumes.spacing}."
            raise SettingsError(msg)
        count = len(volumes.features)
        alone = tuple(
            self._search(volumes, encoder, progress, (encoder / count, 1.0 / count)) for encoder in range(count)
        )
        return replace(found, displacement=alone[0], alone=alone, terms=(volumes.term(0, alone[0]),))

    def factors(self, voxel_mm: float) -> list[int]:
        """Return the cell size of each search level in working voxels, coarsest first.

        The finest is `spacing`; each coarser one is twice as large, until the total range is `range_mm`.
        """
        factors = [self.spacing]
        reach = self.half_width * self.spacing * voxel_mm
        while reach < self.range_mm:
            factors.insert(0, 2 * factors[0])
            reach += self.half_width * factors[0] * voxel_mm
        return factors

    def reach_mm(self, voxel_mm: float) -> float:
        """Return the total range of the search levels."""
        return math.fsum(self.factors(voxel_mm)) * self.half_width * voxel_mm

    def _search(self, volumes: Volumes, encoder: int, progress: Progress, part: tuple[float, float]) -> torch.Tensor:
        """Return the displacement (3, z, y, x) of one encoder, in cells of the features."""
        fixed, moving = volumes.features[encoder]
        shape = (fixed.shape[1], fixed.shape[2], fixed.shape[3])
        factors = self.factors(volumes.voxel_mm)
        total: torch.Tensor | None = None
        for level, factor in enumerate(factors):
            ratio = factor // volumes.spacing
            warped = moving if total is None else warp(moving, total)
            weight = volumes.counted(total)
            coarse_weight = None if weight is None else pool(weight[None], ratio)[0]
            points = volumes.points
            if points is not None:
                points = (points if total is None else points.before(total)).pooled(ratio)
            found = self._search_level(pool(fixed, ratio), pool(warped, ratio), coarse_weight, points, progress)
            step = upsample(found, ratio, shape)
            total = step if total is None else compose_displacements(step, total)
            progress.advance(part[0] + part[1] * (level + 1) / len(factors))
        assert total is not None
        return total

    def _search_level(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        weight: torch.Tensor | None,
        points: PointPairs | None,
        progress: Progress,
    ) -> torch.Tensor:
        """Search one level in both directions; return the displacement in cells of this level."""
        candidates = candidate_displacements(self.half_width, fixed.device)
        costs = cost_volume(fixed, moving, self.half_width, weight, progress)
        if points is not None:
            points.add_costs(costs, candidates)
        forward = coupled_convex(costs, candidates)
        if self.inverse_consistency_iterations == 0:
            return forward
        progress.check_cancelled()
        del costs
        costs = cost_volume(moving, fixed, self.half_width, None, progress)
        if points is not None:
            points.reversed().add_costs(costs, candidates)
        backward = coupled_convex(costs, candidates)
        return make_inverse_consistent(forward, backward, self.inverse_consistency_iterations)[0]


def searches_of(stages: Sequence[Stage]) -> list[DiscreteSearch]:
    """Return the discrete searches among stages."""
    return [stage for stage in stages if isinstance(stage, DiscreteSearch)]
