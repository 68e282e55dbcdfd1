"""ConvexAdam on feature volumes: a discrete search, coarse to fine, then continuous refinement without folds.

Beyond ConvexAdam, the features of a second encoder, the self-similarity of single voxels and, at last, the
intensities themselves refine the field, each as far as it can be trusted at each place.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..features import pool
from ..runtime.progress import Progress
from ..settings import Settings
from ..spatial.sampling import Weights, upsample, weight_on_both_sides
from .confidence import local_measures
from .data_term import Term
from .discrete_search import discrete_search, search_factors, search_reach_mm
from .instance_optimisation import Optimised, energy_of, optimise_instance
from .local_correlation import refine_on_intensities
from .self_similarity import refine_on_voxels, refines_voxels
from .two_encoders import Pair, details_lead, gain_of_details, shared_by_reliability
from .unfolding import unfold
from .unmatched import unmatched, without

__all__ = [
    "STEPS",
    "ConvexAdamResult",
    "convex_adam",
    "correlation_spacing",
    "refines_voxels",
    "search_factors",
    "search_reach_mm",
]

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
# Beyond so many working voxels the last refinement would need more memory than all else.
_MOST_VOXELS = 48_000_000


@dataclass(frozen=True)
class ConvexAdamResult:
    """What ConvexAdam found.

    Attributes:
        displacement: (3, z, y, x) in cells of `spacing` working voxels, components (z, y, x), from fixed to moving.
        spacing: working voxels along one side of a cell of `displacement`.
        discrete: the displacement before the continuous stage, on the instance optimisation grid.
        energies: of the features at each iteration of Adam on its finest level, the last time it was run on them.
        unfolded: share of the cells that were smoothed because space folded there.
        gain_of_details: how much more of both features the details explain with what they found alone than the
            leading ones with theirs; 0 without details. See `two_encoders`.
        measures: (3, z, y, x) on the instance optimisation grid, what tells how far each cell can be trusted, see
            `confidence.local_measures`.
    """

    displacement: torch.Tensor
    spacing: int
    discrete: torch.Tensor
    energies: tuple[float, ...]
    unfolded: float
    gain_of_details: float
    measures: torch.Tensor

    @property
    def led_by_details(self) -> bool:
        """Whether what the details found alone was refined, as the leading features went astray."""
        return details_lead(self.gain_of_details)


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
    found_alone = [optimised.displacement for _, _, optimised in alone]
    gain = 0.0 if details is None else gain_of_details(features, found_alone, weights)
    discrete, term, optimised = alone[int(details_lead(gain))]
    terms = [term]
    stages, displacement, spacing = [discrete], optimised.displacement, settings.adam_grid_spacing
    if details is not None:
        progress.start("refinement")
        stages.append(displacement)
        counted = weight_on_both_sides(*weights, displacement)
        terms = shared_by_reliability((fixed, moving), details, displacement, counted)
        optimised = optimise_instance(terms, displacement, settings, progress)
        displacement = optimised.displacement
    stiffness = None
    if settings.unmatched_stiffness > 0.0:
        progress.start("unmatched structures")
        counted = weight_on_both_sides(*weights, displacement)
        lone = unmatched(*(details or (fixed, moving)), displacement, counted, settings.adam_grid_spacing * voxel_mm)
        stiffness = 1.0 + settings.unmatched_stiffness * lone
        matched = [without(lone, term) for term in terms]
        optimised = optimise_instance(matched, displacement, settings, progress, stiffness=stiffness)
        displacement = optimised.displacement
    if voxels is not None:
        progress.start("self-similarity")
        stages.append(displacement)
        counted = weight_on_both_sides(*weights, displacement)
        displacement = refine_on_voxels(*voxels, displacement, settings, counted, progress, stiffness)
    if intensities is not None:
        progress.start("local correlation")
        stages.append(displacement)
        counted = weight_on_both_sides(*weights, displacement)
        displacement, spacing = _refined_on_intensities(
            *intensities, displacement, (counted, stiffness), settings, progress
        )
    displacement, unfolded = unfold(displacement)
    with torch.no_grad():
        coarser = settings.adam_grid_spacing // spacing
        measures = local_measures(terms, pool(displacement, coarser) / coarser, stages)
    return ConvexAdamResult(displacement, spacing, discrete, optimised.energies, unfolded, gain, measures)


def _registered_alone(
    features: list[Pair], settings: Settings, voxel_mm: float, weights: Weights, progress: Progress
) -> list[tuple[torch.Tensor, Term, Optimised]]:
    """Return for each pair of features, registered alone, the discrete displacement, the term and what Adam found."""
    parts = [(index / len(features), 1.0 / len(features)) for index in range(len(features))]
    progress.start("discrete search")
    with torch.no_grad():
        searched = [
            discrete_search(*pair, settings, voxel_mm, weights, progress, part)
            for pair, part in zip(features, parts, strict=True)
        ]
    progress.start("instance optimisation")
    alone = []
    for pair, start, part in zip(features, searched, parts, strict=True):
        term = Term(*pair, weight_on_both_sides(*weights, start))
        nowhere = torch.zeros_like(start)
        if energy_of(term, nowhere, settings) < energy_of(term, start, settings):
            # Where nothing is to be seen every displacement costs the same, and the search takes any.
            start, term = nowhere, Term(*pair, weight_on_both_sides(*weights, nowhere))
        alone.append((start, term, optimise_instance([term], start, settings, progress, part)))
    return alone


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
