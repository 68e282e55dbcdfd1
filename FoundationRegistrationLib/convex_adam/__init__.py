"""ConvexAdam on feature volumes: coarse-to-fine discrete search, then continuous refinement without folds.

In addition to ConvexAdam, the features of a second encoder and finally the intensities refine the field. Each is a
separate stage; `method.stages_of` lists them for given settings.

Source: paper section 2.1; Siebert et al., "ConvexAdam", IEEE TMI 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..runtime.progress import Progress
from .discrete_search import DiscreteSearch
from .error_predictors import local_measures
from .fluid_refinement import FluidRefinement
from .instance_optimisation import Descent, InstanceOptimisation
from .method import stages_of
from .regularisers import Diffusion, Regulariser
from .shared_refinement import SharedRefinement
from .similarities import Similarity, SquaredDifference
from .stages import Found, Stage, Volumes, step_names
from .two_encoders import details_lead
from .unfolding import unfold

__all__ = [
    "ConvexAdamResult",
    "Descent",
    "Diffusion",
    "DiscreteSearch",
    "FluidRefinement",
    "Found",
    "InstanceOptimisation",
    "Regulariser",
    "SharedRefinement",
    "Similarity",
    "SquaredDifference",
    "Stage",
    "Volumes",
    "convex_adam",
    "stages_of",
]


@dataclass(frozen=True)
class ConvexAdamResult:
    """The result of the stages, without folds.

    Attributes:
        displacement: (3, z, y, x) in cells of the features, components (z, y, x), from fixed to moving.
        energies: of the features at each iteration of the last Adam run on them, on its finest level.
        unfolded: fraction of the cells that were smoothed to remove folds.
        gain_of_details: how much more of both features is explained by the second encoder's own displacement than by
            the first's; 0 with one encoder. See `two_encoders`.
        measures: (2, z, y, x) on the cells of the features, predictors of the local error, see
            `error_predictors.local_measures`.
    """

    displacement: torch.Tensor
    energies: tuple[float, ...]
    unfolded: float
    gain_of_details: float
    measures: torch.Tensor

    @property
    def led_by_details(self) -> bool:
        """Whether the second encoder's own displacement was refined because the first encoder failed."""
        return details_lead(self.gain_of_details)


def convex_adam(
    volumes: Volumes,
    stages: Sequence[Stage],
    progress: Progress,
    observe: Callable[[Stage, Found], None] | None = None,
) -> ConvexAdamResult:
    """Find the displacement from fixed cells to moving cells with similar features.

    Args:
        volumes: the volumes to register.
        stages: run in sequence, each on the result of the previous ones.
        progress: receives each step; see `stages.step_names`.
        observe: called after each stage with the current result.
    """
    found = Found.nothing(volumes)
    for step, stage in zip(step_names(stages), stages, strict=True):
        progress.start(step)
        found = stage.run(volumes, found, progress)
        if observe is not None:
            observe(stage, found)
    displacement, unfolded = unfold(found.displacement)
    measures = local_measures(found.terms, displacement, found.earlier or (displacement,))
    return ConvexAdamResult(displacement, found.energies, unfolded, found.gain_of_details, measures)
