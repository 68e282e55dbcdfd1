"""Last refinement, on the intensities themselves: local normalised cross-correlation.

Features of cells leave fine structures some millimetres off. Where both volumes show the same tissues alike, their
intensities tell more than any feature; elsewhere they say nothing, and the field stays.
Source of the measure: Avants et al., Medical Image Analysis 2008.
"""

from __future__ import annotations

import dataclasses

import torch

from ..runtime.progress import Progress
from ..settings import Settings
from ..spatial.sampling import compose_displacements, warp
from ..spatial.windows import mean_around
from .data_term import Term
from .instance_optimisation import optimise_instance
from .reliability import reliability

# Least mean of the local correlation with which intensities say where tissue belongs. T1 against fat-suppressed T2
# has 0.1 to 0.2 and gets worse; windowed CT against T1 has 0.3 to 0.4, one sequence more, and they get better.
_LEAST_CORRELATION = 0.25
# Standard deviation, in intensities of 0..1, below which a window counts as flat.
_NOISE = 0.02


def refine_on_intensities(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    displacement: torch.Tensor,
    settings: Settings,
    weight: torch.Tensor | None,
    progress: Progress,
    stiffness: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the displacement with which intensities correlate better around each voxel.

    The squared difference of locally normalised intensities is 2 (1 - correlation). Only the change of the field is
    regularised, and a place counts as far as the volumes agree there already, so that little pulls where a lesion
    has come or gone. Each round normalises the moving volume anew, as it lies by then, and adds a change of its own:
    several small ones go further than one large one, also where they should not, as chance agreement adds up. If the
    volumes do not correlate on the whole, as with unlike contrast, the displacement is returned as it is.

    Args:
        fixed: (z, y, x) intensities in 0..1.
        moving: the same for the moving volume, on the same grid.
        displacement: (3, z, y, x) in voxels of that grid, from fixed to moving.
        settings: window, rounds, iterations, lambda.
        weight: (z, y, x) in 0..1, how much each fixed voxel counts; None counts all fully.
        progress: told of each iteration.
        stiffness: (z, y, x), how many times lambda counts at each voxel; None for once everywhere.
    """
    of_change = dataclasses.replace(
        settings,
        iterations=settings.correlation_iterations,
        regularization=settings.correlation_regularization,
        learning_rate=0.5 * settings.learning_rate,
    )
    radius, rounds = settings.correlation_radius, settings.correlation_rounds
    unchanged = torch.zeros_like(displacement)
    fixed = locally_normalised(fixed, radius)
    for index in range(rounds):
        carried = locally_normalised(warp(moving[None], displacement)[0], radius)
        if index == 0 and _correlation(fixed, carried, weight) < _LEAST_CORRELATION:
            return displacement
        trusted = reliability(fixed, carried, unchanged, weight)
        term = Term(fixed, carried, trusted if weight is None else trusted * weight)
        part = (index / rounds, 1.0 / rounds)
        change = optimise_instance([term], unchanged, of_change, progress, part, stiffness).displacement
        displacement = compose_displacements(change, displacement)
    return displacement


def _correlation(fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None) -> float:
    """Return the correlation of locally normalised intensities, (1, z, y, x), over all that counts."""
    if weight is None:
        weight = torch.ones_like(fixed[0])
    product, squares = fixed * moving, 0.5 * (fixed.square() + moving.square())
    return float((product * weight).sum() / (squares * weight).sum().clamp_min(torch.finfo(squares.dtype).tiny))


def locally_normalised(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """Return (1, z, y, x): each voxel less the mean of the cube around it, over the standard deviation there."""
    mean, square = mean_around(torch.stack([volume, volume.square()]), radius)
    deviation = (square - mean.square()).clamp_min_(0.0).add_(_NOISE**2).sqrt_()
    return ((volume - mean) / deviation)[None]
