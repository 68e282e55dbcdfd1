"""Discrete stage, step 1: what it costs to move each cell by each candidate displacement.

Source: ConvexAdam (Siebert et al., IEEE TMI 2024), section on the correlation layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..progress import Progress


def candidate_displacements(half_width: int, device: torch.device) -> torch.Tensor:
    """Return the candidates, (K, 3) in cells with components (z, y, x), K = (2 half_width + 1)^3."""
    steps = torch.arange(-half_width, half_width + 1, device=device, dtype=torch.float32)
    return torch.cartesian_prod(steps, steps, steps)


def cost_volume(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    half_width: int,
    weight: torch.Tensor | None,
    progress: Progress,
) -> torch.Tensor:
    """Return the sum of squared feature differences for each candidate, smoothed by two 3-wide box filters.

    The moving features are looked up in place, one plane of candidates at a time: besides the result, memory
    grows with the features only.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features, zero beyond their grid.
        half_width: candidates reach this many cells to either side.
        weight: (z, y, x) in 0..1, how much the difference at each fixed cell counts; None counts all fully.
        progress: asked whether to stop.

    Returns:
        (K, z, y, x), candidates in the order of `candidate_displacements`.
    """
    width = 2 * half_width + 1
    _, depth, height, breadth = fixed.shape
    padded = F.pad(moving, (half_width,) * 6)
    costs = fixed.new_empty((width**3, depth, height, breadth))
    difference = torch.empty_like(fixed)
    for plane in range(width * width):
        progress.check_cancelled()
        z, y = divmod(plane, width)
        costs_of_plane = costs[plane * width : (plane + 1) * width]
        for x in range(width):
            torch.sub(fixed, padded[:, z : z + depth, y : y + height, x : x + breadth], out=difference)
            torch.sum(difference.square_(), dim=0, out=costs_of_plane[x])
        if weight is not None:
            costs_of_plane *= weight
        smooth = F.avg_pool3d(F.avg_pool3d(costs_of_plane[None], 3, 1, 1), 3, 1, 1)
        costs_of_plane.copy_(smooth[0])
    return costs
