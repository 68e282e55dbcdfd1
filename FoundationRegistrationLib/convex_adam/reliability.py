"""How far the features of one encoder can be trusted at each cell, from how well they agree there by now."""

from __future__ import annotations

import torch

from ..spatial.sampling import warp
from ..spatial.windows import mean_around

# Agreement is judged over a cube of this many cells to either side, unless asked otherwise.
_REACH = 2


def reliability(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    displacement: torch.Tensor,
    weight: torch.Tensor | None = None,
    reach: int | None = None,
) -> torch.Tensor:
    """Return the share of the features' variation that the current displacement explains around each cell.

    It is a local coefficient of determination: 1 minus the squared feature difference over the one that
    unrelated moving features would leave. It is 1 where the features agree, 0 where they agree no better than by
    chance: in noise, where the modalities have nothing in common, where tissue is there on one side only, or
    where the displacement is still wrong.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        displacement: (3, z, y, x) in cells, from fixed to moving.
        weight: (z, y, x) in 0..1, how much each fixed cell counts; None counts all fully.
        reach: cells to either side over which agreement is judged; None for the usual.

    Returns:
        (z, y, x) in 0..1.
    """
    if weight is None:
        weight = torch.ones_like(fixed[0])
    counted = weight > 0.5
    typical = moving[:, counted] if counted.any() else moving.flatten(1)
    mean = typical.mean(dim=1)[:, None, None, None]
    variance = typical.var(dim=1, unbiased=False).sum()
    left = (warp(moving, displacement) - fixed).square_().sum(0) * weight
    by_chance = ((fixed - mean).square_().sum(0) + variance) * weight
    left, by_chance = mean_around(torch.stack([left, by_chance]), _REACH if reach is None else reach)
    return (1.0 - left / by_chance.clamp_min(torch.finfo(left.dtype).tiny)).clamp_(0.0, 1.0)


def mean_reliability(
    fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor, weight: torch.Tensor | None = None
) -> float:
    """Return the mean of `reliability` over the cells, each counting by its weight."""
    explained = reliability(fixed, moving, displacement, weight)
    if weight is None:
        return float(explained.mean())
    return float((explained * weight).sum() / weight.sum().clamp_min(1e-6))
