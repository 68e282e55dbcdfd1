"""The discrete search: all displacements within reach, coarse to fine, in both directions.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

import math

import torch

from ..features import pool
from ..runtime.progress import Progress
from ..settings import Settings
from ..spatial.sampling import Weights, compose_displacements, upsample, warp, weight_on_both_sides
from .cost_volume import candidate_displacements, cost_volume
from .coupled_convex import coupled_convex
from .inverse_consistency import make_inverse_consistent


def search_factors(settings: Settings, voxel_mm: float) -> list[int]:
    """Return the cell size of each search level in working voxels, coarsest first.

    The finest is `grid_spacing`; each coarser one is twice as large, until the levels together reach
    `search_range_mm`.
    """
    factors = [settings.grid_spacing]
    reach = settings.displacement_half_width * settings.grid_spacing * voxel_mm
    while reach < settings.search_range_mm:
        factors.insert(0, 2 * factors[0])
        reach += settings.displacement_half_width * factors[0] * voxel_mm
    return factors


def search_reach_mm(settings: Settings, voxel_mm: float) -> float:
    """Return the largest displacement the search levels reach together."""
    return math.fsum(search_factors(settings, voxel_mm)) * settings.displacement_half_width * voxel_mm


def discrete_search(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings,
    voxel_mm: float,
    weights: Weights,
    progress: Progress,
    part: tuple[float, float],
) -> torch.Tensor:
    """Return the displacement (3, z, y, x) in cells of the instance optimisation grid."""
    shape = (fixed.shape[1], fixed.shape[2], fixed.shape[3])
    factors = search_factors(settings, voxel_mm)
    total: torch.Tensor | None = None
    for level, factor in enumerate(factors):
        ratio = factor // settings.adam_grid_spacing
        warped = moving if total is None else warp(moving, total)
        weight = weight_on_both_sides(*weights, total)
        coarse_weight = None if weight is None else pool(weight[None], ratio)[0]
        found = _search_level(pool(fixed, ratio), pool(warped, ratio), coarse_weight, settings, progress)
        step = upsample(found, ratio, shape)
        total = step if total is None else compose_displacements(step, total)
        progress.advance(part[0] + part[1] * (level + 1) / len(factors))
    assert total is not None
    return total


def _search_level(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor | None,
    settings: Settings,
    progress: Progress,
) -> torch.Tensor:
    """Search one level in both directions; return the displacement in cells of this level."""
    half_width = settings.displacement_half_width
    candidates = candidate_displacements(half_width, fixed.device)
    forward = coupled_convex(cost_volume(fixed, moving, half_width, weight, progress), candidates)
    if settings.inverse_consistency_iterations == 0:
        return forward
    progress.check_cancelled()
    backward = coupled_convex(cost_volume(moving, fixed, half_width, None, progress), candidates)
    return make_inverse_consistent(forward, backward, settings.inverse_consistency_iterations)[0]
