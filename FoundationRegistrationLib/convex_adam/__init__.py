"""ConvexAdam on feature volumes: a discrete search, coarse to fine, then continuous refinement without folds.

Beyond ConvexAdam, the features of a second encoder, the self-similarity of single voxels and, at last, the
intensities themselves refine the field, each as far as it can be trusted at each place.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..features import pool
from ..progress import Progress
from ..settings import Settings
from .confidence import local_measures
from .cost_volume import candidate_displacements, cost_volume
from .coupled_convex import coupled_convex
from .instance_optimisation import Optimised, Term, optimise_instance
from .inverse_consistency import make_inverse_consistent
from .local_correlation import refine_on_intensities
from .reliability import mean_reliability, reliability
from .sampling import compose, upsample, warp
from .self_similarity import refine_on_voxels, refines_voxels
from .unfolding import unfold
from .unmatched import unmatched, without

__all__ = ["STEPS", "ConvexAdamResult", "convex_adam", "refines_voxels", "search_factors"]

STEPS = (
    "discrete search",
    "instance optimisation",
    "refinement",
    "unmatched structures",
    "self-similarity",
    "local correlation",
)
# Cells of the last refinement need be no smaller.
_FINE_MM = 2.0
# What the details found alone is refined only if it explains so much more, of 2 for both features: fine features
# explain themselves well wherever they are registered alone. On PET-CT phantoms 10 and 11, where the lead is right,
# it is 0.04 to 0.10; on phantom 1, where LiteMedSAM is wrong, 0.17.
_LEAST_GAIN_OF_DETAILS = 0.125
# Beyond so many working voxels the last refinement would need more memory than all else.
_MOST_VOXELS = 48_000_000

# Of the fixed and of the moving volume.
_Pair = tuple[torch.Tensor, torch.Tensor]
_Weights = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True)
class ConvexAdamResult:
    """What ConvexAdam found.

    Attributes:
        displacement: (3, z, y, x) in cells of `spacing` working voxels, components (z, y, x), from fixed to moving.
        spacing: working voxels along one side of a cell of `displacement`.
        discrete: the displacement before the continuous stage, on the instance optimisation grid.
        energies: of the features at each iteration of Adam on its finest level, the last time it was run on them.
        unfolded: share of the cells that were smoothed because space folded there.
        led_by_details: whether what the details found alone was refined, as the leading features went astray.
        measures: (3, z, y, x) on the instance optimisation grid, what tells how far each cell can be trusted, see
            `confidence.local_measures`.
    """

    displacement: torch.Tensor
    spacing: int
    discrete: torch.Tensor
    energies: tuple[float, ...]
    unfolded: float
    led_by_details: bool
    measures: torch.Tensor


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
    moving_weight: torch.Tensor | None = None,
    details: tuple[torch.Tensor, torch.Tensor] | None = None,
    voxels: tuple[torch.Tensor, torch.Tensor] | None = None,
    intensities: tuple[torch.Tensor, torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> ConvexAdamResult:
    """Find the displacement that carries fixed cells onto moving cells with like features.

    With `details`, both features are registered alone, and both then refine what the first ones found, the details
    taking over at each place as far as they are reliable there. If the first ones went astray, so that what the
    details found explains far more of all features, that is refined instead. With `voxels`, single voxels refine it
    on the same cells, by what they are like among their neighbours; with `intensities`, at last, how well these
    correlate, if they do, on cells fine enough. With `settings.unmatched_stiffness`, the features are then registered
    once more, and from there on the field is stiffer where only one volume shows a structure.

    Args:
        fixed: (C, z, y, x) features on the grid pooled by `settings.adam_grid_spacing`.
        moving: the same for the moving volume.
        settings: all parameters of both stages.
        voxel_mm: edge of a working voxel (not of a cell).
        weight: (z, y, x) in 0..1, how much the difference at each fixed cell counts.
        moving_weight: the same for each moving cell; it counts at the fixed cells that the displacement found so far
            carries there.
        details: (fixed, moving) features of a second encoder on the same grid.
        voxels: (fixed, moving) intensities (z, y, x) on the working grid; see `refines_voxels`.
        intensities: the same averaged over cells of `correlation_spacing` working voxels.
        progress: reports the steps "discrete search", "instance optimisation" and, with details, "refinement", with
            a stiffness of what is unmatched "unmatched structures", with voxels "self-similarity", with intensities
            "local correlation".
    """
    progress = progress or Progress(dict.fromkeys(STEPS, 1.0))
    weights = (weight, moving_weight)
    features = [(fixed, moving)] if details is None else [(fixed, moving), details]
    alone = _registered_alone(features, settings, voxel_mm, weights, progress)
    led_by_details = details is not None and _goes_astray(features, alone, weights)
    discrete, term, optimised = alone[int(led_by_details)]
    terms = [term]
    stages, displacement, spacing = [discrete], optimised.displacement, settings.adam_grid_spacing
    if details is not None:
        progress.start("refinement")
        stages.append(displacement)
        counted = _weight_on_both_sides(*weights, displacement)
        terms = _shared_by_reliability((fixed, moving), details, displacement, counted)
        optimised = optimise_instance(terms, displacement, settings, progress)
        displacement = optimised.displacement
    stiffness = None
    if settings.unmatched_stiffness > 0.0:
        progress.start("unmatched structures")
        counted = _weight_on_both_sides(*weights, displacement)
        lone = unmatched(*(details or (fixed, moving)), displacement, counted, settings.adam_grid_spacing * voxel_mm)
        stiffness = 1.0 + settings.unmatched_stiffness * lone
        matched = [without(lone, term) for term in terms]
        optimised = optimise_instance(matched, displacement, settings, progress, stiffness=stiffness)
        displacement = optimised.displacement
    if voxels is not None:
        progress.start("self-similarity")
        stages.append(displacement)
        counted = _weight_on_both_sides(*weights, displacement)
        displacement = refine_on_voxels(*voxels, displacement, settings, counted, progress, stiffness)
    if intensities is not None:
        progress.start("local correlation")
        stages.append(displacement)
        counted = _weight_on_both_sides(*weights, displacement)
        displacement, spacing = _refined_on_intensities(
            *intensities, displacement, (counted, stiffness), settings, progress
        )
    displacement, unfolded = unfold(displacement)
    with torch.no_grad():
        coarser = settings.adam_grid_spacing // spacing
        measures = local_measures(terms, pool(displacement, coarser) / coarser, stages)
    return ConvexAdamResult(displacement, spacing, discrete, optimised.energies, unfolded, led_by_details, measures)


def _registered_alone(
    features: list[_Pair], settings: Settings, voxel_mm: float, weights: _Weights, progress: Progress
) -> list[tuple[torch.Tensor, Term, Optimised]]:
    """Return for each pair of features, registered alone, the discrete displacement, the term and what Adam found."""
    parts = [(index / len(features), 1.0 / len(features)) for index in range(len(features))]
    progress.start("discrete search")
    with torch.no_grad():
        discrete = [
            _discrete_search(*pair, settings, voxel_mm, weights, progress, part)
            for pair, part in zip(features, parts, strict=True)
        ]
    progress.start("instance optimisation")
    alone = []
    for pair, start, part in zip(features, discrete, parts, strict=True):
        term = Term(*pair, _weight_on_both_sides(*weights, start))
        alone.append((start, term, optimise_instance([term], start, settings, progress, part)))
    return alone


def _goes_astray(features: list[_Pair], alone: list[tuple[torch.Tensor, Term, Optimised]], weights: _Weights) -> bool:
    """Tell whether the first features' registration explains far less of all features than the second's does."""
    explained = []
    for _, _, optimised in alone:
        counted = _weight_on_both_sides(*weights, optimised.displacement)
        explained.append(math.fsum(mean_reliability(*pair, optimised.displacement, counted) for pair in features))
    return explained[1] - explained[0] > _LEAST_GAIN_OF_DETAILS


def _shared_by_reliability(
    lead: _Pair,
    details: _Pair,
    displacement: torch.Tensor,
    weight: torch.Tensor | None,
) -> list[Term]:
    """Return both features as terms that share the weight of each cell.

    The leading features count by the square of what the details leave unexplained, the details by the rest: these
    decide alone where they agree, and have no say where they agree no better than by chance.
    """
    left = (1.0 - reliability(*details, displacement, weight)).square_()
    of_details = 1.0 - left
    if weight is not None:
        left, of_details = left * weight, of_details * weight
    return [Term(*lead, left), Term(*details, of_details)]


def _refined_on_intensities(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    displacement: torch.Tensor,
    of_cells: tuple[torch.Tensor | None, torch.Tensor | None],
    settings: Settings,
    progress: Progress,
) -> tuple[torch.Tensor, int]:
    """Return the displacement refined on the cells of the intensities, and their size in working voxels.

    Args:
        fixed: (z, y, x) intensities on the cells of the displacement, or on the working grid.
        moving: the same for the moving volume.
        displacement: (3, z, y, x) on the instance optimisation grid.
        of_cells: (z, y, x) on that grid, how much each cell counts, and how many times stiffer the field is there.
        settings: of the refinement.
        progress: told of each iteration.
    """
    shape = (fixed.shape[0], fixed.shape[1], fixed.shape[2])
    factor = 1 if shape == displacement.shape[1:] else settings.adam_grid_spacing
    weight, stiffness = (_repeated(each, factor, shape) for each in of_cells)
    displacement = upsample(displacement, factor, shape)
    found = refine_on_intensities(fixed, moving, displacement, settings, weight, progress, stiffness)
    return found, settings.adam_grid_spacing // factor


def _repeated(of_cells: torch.Tensor | None, factor: int, shape: tuple[int, int, int]) -> torch.Tensor | None:
    """Return the value of each cell on a grid `factor` times finer, which may end within the last cells."""
    if of_cells is None:
        return None
    for axis, size in enumerate(shape):
        of_cells = of_cells.repeat_interleave(factor, axis).narrow(axis, 0, size)
    return of_cells


def correlation_spacing(voxels: int, voxel_mm: float, settings: Settings) -> int:
    """Return the cell size of the last refinement in working voxels: that of Adam if it is fine enough, else one.

    Args:
        voxels: number of working voxels; where they are too many, the cells of Adam have to do.
        voxel_mm: edge of a working voxel.
        settings: grid spacing of Adam.
    """
    fine_enough = settings.adam_grid_spacing * voxel_mm <= _FINE_MM
    return settings.adam_grid_spacing if fine_enough or voxels > _MOST_VOXELS else 1


def _weight_on_both_sides(
    weight: torch.Tensor | None, moving_weight: torch.Tensor | None, displacement: torch.Tensor | None
) -> torch.Tensor | None:
    """Return (z, y, x), how much each fixed cell counts if the displacement carries it to weighted moving cells."""
    if moving_weight is None:
        return weight
    carried = moving_weight if displacement is None else warp(moving_weight[None], displacement, "zeros")[0]
    return carried if weight is None else weight * carried


def _discrete_search(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings,
    voxel_mm: float,
    weights: _Weights,
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
        weight = _weight_on_both_sides(*weights, total)
        coarse_weight = None if weight is None else pool(weight[None], ratio)[0]
        found = _search_level(pool(fixed, ratio), pool(warped, ratio), coarse_weight, settings, progress)
        step = upsample(found, ratio, shape)
        total = step if total is None else compose(step, total)
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
