"""Discrete stage, step 1: the cost of each candidate displacement at each cell.

Source: ConvexAdam (Siebert et al., IEEE TMI 2024), section on the correlation layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..runtime.progress import Progress
from ..spatial.windows import sum_around

CELLS_IN_BOX = 27
_VALUES_AT_ONCE = 4_000_000


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

    All differences between the cells of two rows are one matrix product, whose diagonals are the candidates. It is
    computed for a few rows at a time to limit memory.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features, zero beyond their grid.
        half_width: largest candidate along each axis, cells.
        weight: (z, y, x) in 0..1, weight of each fixed cell; None for all 1.
        progress: checked for cancellation.

    Returns:
        (K, z, y, x), candidates in the order of `candidate_displacements`.
    """
    width = 2 * half_width + 1
    _, depth, height, breadth = fixed.shape
    one_side, other_side = _factors(fixed, moving, half_width, weight)
    costs = fixed.new_empty((width**3, depth, height, breadth))
    rows = max(1, _VALUES_AT_ONCE // (height * breadth * (breadth + 2 * half_width)))
    for plane in range(width * width):
        progress.check_cancelled()
        z, y = divmod(plane, width)
        costs_of_plane = costs[plane * width : (plane + 1) * width]
        for start in range(0, depth, rows):
            stop = min(start + rows, depth)
            # Each cell of a row with each cell of the other row, (z, y, x, x of the other).
            pairs = one_side[start:stop] @ other_side[start + z : stop + z, y : y + height]
            for x in range(width):
                costs_of_plane[x, start:stop] = pairs.diagonal(x, dim1=2, dim2=3)
        costs_of_plane.copy_(sum_around(sum_around(costs_of_plane, 1), 1)).div_(CELLS_IN_BOX**2)
    return costs


def _factors(
    fixed: torch.Tensor, moving: torch.Tensor, half_width: int, weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of the squared differences |f - m|^2 = (-2 f, |f|^2, 1) (m, 1, |m|^2).

    Returns:
        The fixed side (z, y, x, C + 2), weighted, and the moving side (z, y, C + 2, x), zero features around it.
    """
    square = fixed.square().sum(0, keepdim=True)
    one_side = torch.cat([-2.0 * fixed, square, torch.ones_like(square)])
    if weight is not None:
        one_side *= weight
    padded = F.pad(moving, (half_width,) * 6)
    square = padded.square().sum(0, keepdim=True)
    other_side = torch.cat([padded, torch.ones_like(square), square])
    return one_side.permute(1, 2, 3, 0).contiguous(), other_side.permute(1, 2, 0, 3).contiguous()
