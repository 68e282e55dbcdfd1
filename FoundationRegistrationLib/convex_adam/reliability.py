"""Local reliability of an encoder's features, from their current agreement."""

from __future__ import annotations

import torch

from ..spatial.sampling import warp
from ..spatial.windows import mean_around

# Default half-width of the cube over which agreement is measured, cells.
_REACH = 2


def reliability(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    displacement: torch.Tensor,
    weight: torch.Tensor | None = None,
    reach: int | None = None,
) -> torch.Tensor:
    """Return the fraction of the features' variation that the current displacement explains around each cell.

    It is a local coefficient of determination: 1 minus the ratio of the squared feature difference to that of
    unrelated moving features. It is 1 where the features agree, 0 where they agree no better than by chance: in
    noise, where the modalities have nothing in common, where tissue is present in one volume only, or where the
    displacement is still wrong.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        displacement: (3, z, y, x) in cells, from fixed to moving.
        weight: (z, y, x) in 0..1, weight of each fixed cell; None for all 1.
        reach: half-width of the cube over which agreement is measured, cells; None for the default.

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
    """Return the weighted mean of `reliability` over the cells."""
    explained = reliability(fixed, moving, displacement, weight)
    if weight is None:
        return float(explained.mean())
    return float((explained * weight).sum() / weight.sum().clamp_min(1e-6))
