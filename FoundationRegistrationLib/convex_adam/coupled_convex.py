"""Discrete stage, step 2: a smooth field of low cost by coupled convex optimisation.

Source: ConvexAdam (Siebert et al., IEEE TMI 2024); Heinrich et al., MICCAI 2014.
"""

from __future__ import annotations

import torch

from ..spatial.windows import sum_around
from .cost_volume import CELLS_IN_BOX

COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_CELLS_PER_CHUNK = 4096  # fewer fit the cache of a thread better, but make threads wait for each other


def coupled_convex(costs: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Alternate between the best candidate near the smooth field and smoothing the chosen candidates.

    Args:
        costs: (K, z, y, x) cost of each candidate.
        candidates: (K, 3) displacements in cells, components (z, y, x).

    Returns:
        (3, z, y, x) displacement in cells, components (z, y, x), from fixed to moving.
    """
    shape = costs.shape[1:]
    flat = costs.reshape(costs.shape[0], -1)
    smooth = _smoothed_choice(_cheapest(flat), candidates, shape)
    # |candidate - smooth|^2 without the part that is the same for all candidates, as a matrix product.
    terms = torch.cat([-2.0 * candidates, candidates.square().sum(1, keepdim=True)], dim=1)
    for coupling in COUPLING:
        target = smooth.reshape(3, -1)
        target = torch.cat([target, torch.ones_like(target[:1])])
        choice = _cheapest(flat, terms * coupling, target)
        smooth = _smoothed_choice(choice, candidates, shape)
    return smooth


def _cheapest(
    costs: torch.Tensor, terms: torch.Tensor | None = None, target: torch.Tensor | None = None
) -> torch.Tensor:
    """Return for each cell the index of the least cost, plus `terms @ target` if given; in chunks of cells."""
    parts = []
    for start in range(0, costs.shape[1], _CELLS_PER_CHUNK):
        chunk = costs[:, start : start + _CELLS_PER_CHUNK]
        if terms is not None and target is not None:
            chunk = torch.addmm(chunk, terms, target[:, start : start + _CELLS_PER_CHUNK])
        parts.append(_index_of_least(chunk))
    return torch.cat(parts)


def _index_of_least(costs: torch.Tensor) -> torch.Tensor:
    """Return the index of the least value along the first axis of (K, n), the first one among equals.

    The candidates fill a cube (`candidate_displacements`). Finding minima is many times faster than finding their
    indices, so the index is searched among the minima of the rows of the cube, then within that row.
    """
    width = round(costs.shape[0] ** (1 / 3))
    rows = costs.unflatten(0, (-1, width))
    row = rows.amin(1).min(dim=0).indices
    in_row = rows.gather(0, row.expand(1, width, -1))[0]
    return row * width + in_row.min(dim=0).indices


def _smoothed_choice(choice: torch.Tensor, candidates: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return sum_around(candidates[choice].T.reshape(3, *shape), 1).div_(CELLS_IN_BOX)
