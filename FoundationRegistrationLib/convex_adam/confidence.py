"""How far the true displacement may be from the one found, place by place, in mm.

Three signs of trouble are measured at each cell from what the optimisation has at hand. A regression on phantoms
whose exact displacement is known says what error they go with (`fitted_error.py`). Feature differences enter as
ratios only, so that the signs mean the same with every encoder. Lengths are counted in cells: a grid twice as fine
expects half the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..spatial.sampling import warp
from ..spatial.windows import mean_around
from . import fitted_error
from .similarities import Term

MEASURES = ("width", "bending", "disagreement")
# Where nothing was compared. It is large rather than negative or NaN: interpolation then errs on the safe side.
NOT_KNOWN_MM = 100.0
# The model predicts no larger error; an interpolated map has more than this where it is partly not known.
LARGEST_KNOWN_MM = 50.0

# Costs and bending are averaged over a cube of this many cells to either side.
_REACH = 2
# Displacements up to this many cells along each axis are tried.
_FARTHEST = 2
# A displacement is e times less likely for each such share by which its cost is above that of the result.
_TEMPERATURE = 0.15
_VALUES_AT_ONCE = 6_000_000
# A cell was compared if at least one term gave it this much of a full weight.
_LEAST_WEIGHT = 0.25
# Added before the logarithm, in cells: what is smaller says nothing about the error.
_LEAST = {"width": 0.05, "bending": 0.002, "disagreement": 0.05}


def local_measures(terms: Sequence[Term], displacement: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what tells cells that are well registered from others, as natural logarithms.

    - width: how far one may move along the axes before the features agree less. The root mean square of small
      displacements, weighted by exp(-(cost - cost of the result) / (temperature x cost of the result)). It is
      small at a sharp minimum, large where nothing is to be seen or nothing fits.
    - bending: root mean square of the displacement's Laplacian. Tissue bends gently; where the field does not,
      features pull it to and fro.
    - disagreement: root mean square distance from what other searches found.

    Args:
        terms: the features that were brought to agree, with the weights used last.
        displacement: (3, z, y, x) in cells, from fixed to moving: the result.
        others: displacements of the same form that were found in other ways, such as the discrete one; at least one.

    Returns:
        (3, z, y, x) in the order of `MEASURES`, of lengths in cells; NaN where nothing was compared.
    """
    distances = torch.stack([(displacement - other).square().sum(0) for other in others]).mean(0)
    bending, disagreement = mean_around(torch.stack([_squared_laplacian(displacement), distances]), _REACH)
    squares = {"width": _squared_width(terms, displacement), "bending": bending, "disagreement": disagreement}
    measures = torch.stack([(squares[name].sqrt() + _LEAST[name]).log() for name in MEASURES])
    return torch.where(_compared(terms, displacement), measures, torch.nan)


def expected_error(measures: torch.Tensor, cell_mm: float) -> torch.Tensor:
    """Return the mean error of displacements that such measures went with, in mm.

    The model does not extrapolate: measures beyond those it was fitted on count as the most extreme of these.

    Args:
        measures: (3, ...) as `local_measures` gives them.
        cell_mm: edge of a cell.

    Returns:
        (...), at most `LARGEST_KNOWN_MM`; `NOT_KNOWN_MM` where a measure is NaN.
    """
    exponent = torch.full_like(measures[0], fitted_error.INTERCEPT)
    for name, measure in zip(MEASURES, measures, strict=True):
        coefficient, low, high = fitted_error.COEFFICIENTS[name]
        exponent += coefficient * measure.clamp(low, high)
    error = (cell_mm * exponent.exp()).clamp(max=LARGEST_KNOWN_MM)
    return torch.where(error.isnan(), NOT_KNOWN_MM, error)


def _squared_width(terms: Sequence[Term], displacement: torch.Tensor) -> torch.Tensor:
    """Return the mean squared length, (z, y, x), of the displacements from the result that fit as well."""
    steps = [step for step in range(-_FARTHEST, _FARTHEST + 1) if step]
    shifts = [(0, 0, 0), *((s, 0, 0) for s in steps), *((0, s, 0) for s in steps), *((0, 0, s) for s in steps)]
    costs = displacement.new_zeros((len(shifts), *displacement.shape[1:]))
    for term in terms:
        _add_costs(term, displacement, shifts, costs)
    for cost in costs:
        cost.copy_(mean_around(cost[None], _REACH)[0])
    of_result = costs[0].clone()
    scale = (_TEMPERATURE * of_result).clamp_min_(torch.finfo(costs.dtype).tiny)
    # A place that fits better than the result counts, but no more than a thousand times.
    likely = costs.sub_(of_result).neg_().div_(scale).clamp_(max=7.0).exp_()
    squares = likely.new_tensor([sum(step * step for step in shift) for shift in shifts])
    return (squares @ likely.flatten(1)).view_as(of_result) / likely.sum(0)


def _add_costs(
    term: Term, displacement: torch.Tensor, shifts: Sequence[tuple[int, int, int]], costs: torch.Tensor
) -> None:
    """Add the squared feature difference at each shift from the displacement, in place.

    Moving features are looked up once and then shifted by whole cells, as the displacement changes little from one
    cell to the next. Channels are taken a few at a time, so that memory beyond the features stays small.
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
    """Return (z, y, x) bool: cells to which a term gave weight."""
    compared = torch.zeros_like(displacement[0], dtype=torch.bool)
    for term in terms:
        compared |= torch.ones_like(compared) if term.weight is None else term.weight >= _LEAST_WEIGHT
    return compared


def _squared_laplacian(displacement: torch.Tensor) -> torch.Tensor:
    """Return the squared length of the displacement's Laplacian, (z, y, x), by differences of differences."""
    total = torch.zeros_like(displacement)
    for axis in (1, 2, 3):
        slope = torch.gradient(displacement, dim=axis)[0]
        total += torch.gradient(slope, dim=axis)[0]
    return total.square_().sum(0)
