"""Predictors of the local error of the displacement, from data of the optimisation.

Feature differences enter only as ratios, so that the predictors mean the same for every encoder. Lengths are in
cells: a grid twice as fine has half the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..spatial.sampling import warp
from ..spatial.windows import mean_around
from .similarities import Term

MEASURES = ("width", "disagreement")

# Costs and distances are averaged over a cube of this half-width in cells.
_REACH = 2
# Largest tested displacement along each axis, cells.
_FARTHEST = 2
# A displacement is e times less likely per cost increase of this fraction of the result's cost.
_TEMPERATURE = 0.15
_VALUES_AT_ONCE = 6_000_000
# A cell was compared if at least one term gave it this weight.
_LEAST_WEIGHT = 0.25
# Added before the logarithm, in cells: smaller values are not informative.
_LEAST = {"width": 0.05, "disagreement": 0.05}


def local_measures(terms: Sequence[Term], displacement: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the predictors of the local error, as natural logarithms.

    - width: width of the cost minimum, the root mean square of small displacements, weighted by exp(-(cost - cost of
      the result) / (temperature x cost of the result)). It is small at a sharp minimum, large without structure or
      without a match.
    - disagreement: root mean square distance from the results of other searches.

    Args:
        terms: the matched features, with their last weights.
        displacement: (3, z, y, x) in cells, from fixed to moving: the result.
        others: other estimates of the displacement, such as the discrete one; at least one.

    Returns:
        (2, z, y, x) in the order of `MEASURES`, logarithms of lengths in cells; NaN where nothing was compared.
    """
    distances = torch.stack([(displacement - other).square().sum(0) for other in others]).mean(0)
    disagreement = mean_around(distances[None], _REACH)[0]
    squares = {"width": _squared_width(terms, displacement), "disagreement": disagreement}
    measures = torch.stack([(squares[name].sqrt() + _LEAST[name]).log() for name in MEASURES])
    return torch.where(_compared(terms, displacement), measures, torch.nan)


def _squared_width(terms: Sequence[Term], displacement: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean squared length, (z, y, x), of displacements from the result, see `local_measures`."""
    steps = [step for step in range(-_FARTHEST, _FARTHEST + 1) if step]
    shifts = [(0, 0, 0), *((s, 0, 0) for s in steps), *((0, s, 0) for s in steps), *((0, 0, s) for s in steps)]
    costs = displacement.new_zeros((len(shifts), *displacement.shape[1:]))
    for term in terms:
        _add_costs(term, displacement, shifts, costs)
    for cost in costs:
        cost.copy_(mean_around(cost[None], _REACH)[0])
    of_result = costs[0].clone()
    scale = (_TEMPERATURE * of_result).clamp_min_(torch.finfo(costs.dtype).tiny)
    # A displacement that fits better than the result counts at most a thousand times.
    likely = costs.sub_(of_result).neg_().div_(scale).clamp_(max=7.0).exp_()
    squares = likely.new_tensor([sum(step * step for step in shift) for shift in shifts])
    return (squares @ likely.flatten(1)).view_as(of_result) / likely.sum(0)


def _add_costs(
    term: Term, displacement: torch.Tensor, shifts: Sequence[tuple[int, int, int]], costs: torch.Tensor
) -> None:
    """Add the squared feature difference at each shift from the displacement, in place.

    Moving features are interpolated once and then shifted by whole cells, since the displacement changes little
    between neighbouring cells. Channels are processed a few at a time to limit memory.
    """
    depth, height, width = displacement.shape[1:]
    at_once = max(1, _VALUES_AT_ONCE // displacement[0].numel())
    for fixed, moving in zip(term.fixed.split(at_once), term.moving.split(at_once), strict=True):
        warped = F.pad(warp(moving, displacement)[None], (_FARTHEST,) * 6, mode="replicate")[0]
        for cost, (z, y, x) in zip(costs, shifts, strict=True):
            z, y, x = z + _FARTHEST, y + _FARTHEST, x + _FARTHEST
            difference = warped[:, z : z + depth, y : y + height, x : x + width] - fixed
            squared = difference.square_().sum(0)
            cost += squared if term.weight is None else squared * term.weight


def _compared(terms: Sequence[Term], displacement: torch.Tensor) -> torch.Tensor:
    """Return (z, y, x) bool: cells with weight in any term."""
    compared = torch.zeros_like(displacement[0], dtype=torch.bool)
    for term in terms:
        compared |= torch.ones_like(compared) if term.weight is None else term.weight >= _LEAST_WEIGHT
    return compared
