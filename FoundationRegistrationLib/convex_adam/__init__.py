"""ConvexAdam on feature volumes: a discrete search, coarse to fine, then continuous refinement without folds.

Beyond ConvexAdam, the features of a second encoder, the self-similarity of single voxels and, at last, the
intensities themselves refine the field, each as far as it can be trusted at each place. Each is a stage of its own;
`method.stages_of` makes the list of them from settings.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..features import pool
from ..runtime.progress import Progress
from .confidence import local_measures
from .discrete_search import DiscreteSearch
from .instance_optimisation import Descent, InstanceOptimisation
from .local_correlation import LocalCorrelation
from .method import stages_of
from .regularisers import Diffusion, Regulariser
from .self_similarity import SelfSimilarity
from .shared_refinement import SharedRefinement
from .similarities import Similarity, SquaredDifference
from .stages import Found, Stage, Volumes, step_names
from .two_encoders import details_lead
from .unfolding import unfold
from .unmatched import UnmatchedStructures

__all__ = [
    "ConvexAdamResult",
    "Descent",
    "Diffusion",
    "DiscreteSearch",
    "Found",
    "InstanceOptimisation",
    "LocalCorrelation",
    "Regulariser",
    "SelfSimilarity",
    "SharedRefinement",
    "Similarity",
    "SquaredDifference",
    "Stage",
    "UnmatchedStructures",
    "Volumes",
    "convex_adam",
    "stages_of",
]


@dataclass(frozen=True)
class ConvexAdamResult:
    """What the stages found, without folds.

    Attributes:
        displacement: (3, z, y, x) in cells of `spacing` working voxels, components (z, y, x), from fixed to moving.
        spacing: working voxels along one side of a cell of `displacement`.
        energies: of the features at each iteration of Adam on its finest level, the last time it was run on them.
        unfolded: share of the cells that were smoothed because space folded there.
        gain_of_details: how much more of both features the second encoder explains with what it found alone than the
            first with its own; 0 with one encoder. See `two_encoders`.
        measures: (3, z, y, x) on the cells of the features, what tells how far each can be trusted, see
            `confidence.local_measures`.
    """

    displacement: torch.Tensor
    spacing: int
    energies: tuple[float, ...]
    unfolded: float
    gain_of_details: float
    measures: torch.Tensor

    @property
    def led_by_details(self) -> bool:
        """Whether what the second encoder found alone was refined, as the first one failed."""
        return details_lead(self.gain_of_details)


def convex_adam(
    volumes: Volumes,
    stages: Sequence[Stage],
    progress: Progress,
    observe: Callable[[Stage, Found], None] | None = None,
) -> ConvexAdamResult:
    """Find the displacement that carries fixed cells onto moving cells with like features.

    Args:
        volumes: what to compare.
        stages: run one after the other, each on what those before it found.
        progress: told of each step; see `stages.step_names`.
        observe: called after each stage with what has been found by then.
    """
    found = Found.nothing(volumes)
    for step, stage in zip(step_names(stages), stages, strict=True):
        progress.start(step)
        found = stage.run(volumes, found, progress)
        if observe is not None:
            observe(stage, found)
    displacement, unfolded = unfold(found.displacement)
    ratio = volumes.spacing // found.spacing
    on_cells = pool(displacement, ratio) / ratio
    measures = local_measures(found.terms, on_cells, found.earlier or (on_cells,))
    return ConvexAdamResult(displacement, found.spacing, found.energies, unfolded, found.gain_of_details, measures)
