"""ConvexAdam on feature volumes: a discrete search, coarse to fine, then continuous refinement without folds.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..features import pool
from ..progress import Progress
from ..settings import Settings
from .cost_volume import candidate_displacements, cost_volume
from .coupled_convex import coupled_convex
from .instance_optimisation import Term, optimise_instance
from .inverse_consistency import make_inverse_consistent
from .reliability import reliability
from .sampling import compose, upsample, warp
from .unfolding import unfold

__all__ = ["ConvexAdamResult", "convex_adam", "search_factors"]


@dataclass(frozen=True)
class ConvexAdamResult:
    """What ConvexAdam found, on the instance optimisation grid.

    Attributes:
        displacement: (3, z, y, x) in cells, components (z, y, x), from fixed to moving.
        discrete: the displacement before the continuous stage, in the same form.
        energies: energy at each iteration of Adam that was run, the last time it was run.
        unfolded: share of the cells that were smoothed because space folded there.
    """

    displacement: torch.Tensor
    discrete: torch.Tensor
    energies: tuple[float, ...]
    unfolded: float


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


def convex_adam(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings,
    *,
    voxel_mm: float,
    weight: torch.Tensor | None = None,
    details: tuple[torch.Tensor, torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> ConvexAdamResult:
    """Find the displacement that carries fixed cells onto moving cells with like features.

    With `details`, the other features decide what is far away or ambiguous: they are registered alone. Then both
    together refine the result, the details counting at each place only as far as they are reliable there.

    Args:
        fixed: (C, z, y, x) features on the grid pooled by `settings.adam_grid_spacing`.
        moving: the same for the moving volume.
        settings: all parameters of both stages.
        voxel_mm: edge of a working voxel (not of a cell).
        weight: (z, y, x) in 0..1, how much the difference at each fixed cell counts.
        details: (fixed, moving) features of a second encoder on the same grid.
        progress: reports the steps "discrete search", "instance optimisation" and, with details, "refinement".
    """
    progress = progress or Progress({"discrete search": 1.0, "instance optimisation": 1.0, "refinement": 1.0})
    with torch.no_grad():
        progress.start("discrete search")
        discrete = _discrete_search(fixed, moving, settings, voxel_mm, weight, progress)
    progress.start("instance optimisation")
    terms = [Term(fixed, moving, weight)]
    optimised = optimise_instance(terms, discrete, settings, progress)
    if details is not None:
        progress.start("refinement")
        trusted = reliability(*details, optimised.displacement, weight)
        terms.append(Term(*details, trusted if weight is None else trusted * weight))
        optimised = optimise_instance(terms, optimised.displacement, settings, progress)
    displacement, unfolded = unfold(optimised.displacement)
    return ConvexAdamResult(displacement, discrete, optimised.energies, unfolded)


def _discrete_search(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings,
    voxel_mm: float,
    weight: torch.Tensor | None,
    progress: Progress,
) -> torch.Tensor:
    """Return the displacement (3, z, y, x) in cells of the instance optimisation grid."""
    shape = (fixed.shape[1], fixed.shape[2], fixed.shape[3])
    factors = search_factors(settings, voxel_mm)
    total: torch.Tensor | None = None
    for level, factor in enumerate(factors):
        ratio = factor // settings.adam_grid_spacing
        warped = moving if total is None else warp(moving, total)
        coarse_weight = None if weight is None else pool(weight[None], ratio)[0]
        found = _search_level(pool(fixed, ratio), pool(warped, ratio), coarse_weight, settings, progress)
        step = upsample(found, ratio, shape)
        total = step if total is None else compose(step, total)
        progress.advance((level + 1) / len(factors))
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
