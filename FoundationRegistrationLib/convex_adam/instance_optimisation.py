"""Continuous stage: Adam refines the field for this pair (paper equation 3), coarse to fine.

The energy is the feature difference plus the regulariser and, for tissue that keeps its volume, the cost of volume
changes. The optimised field is smoothed by repeated box filters at each step. The gradient is analytic and computed
in slabs, so that memory beyond the features is a few displacement fields.

Most iterations run on features averaged over larger cells, at an eighth of the cost; the last ones add detail. Step
sizes decay linearly at each level: constant steps would leave a roughness of their size after a few iterations. Each
level keeps its field of lowest energy: Adam's first steps have the same size whatever the gradient, and would leave a
start that is already right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..features import pool
from ..runtime.progress import Progress
from ..spatial.sampling import upsample
from .adam import Adam, Course
from .point_pairs import PointDifference, PointPairs
from .regularisers import Cost, Diffusion, Regulariser, filtered, smoothing_matrices
from .similarities import Difference, FeatureDifference, Similarity, SquaredDifference, Term
from .stages import Found, Volumes
from .two_encoders import details_lead, gain_of_details
from .volume_change import VolumeChange

# Smallest useful size of a level along each axis, cells.
_LEAST_CELLS = 8
# With several levels: fraction of the iterations per level, and relative size of the first steps, for the finest and
# the coarser ones. The finest corrects little, and long steps would only roughen the field.
_FINEST = (1 / 4, 1 / 4)
_COARSER = (1 / 2, 1)


@dataclass(frozen=True)
class Descent:
    """Parameters of the minimisation by Adam: energy, step size, stopping.

    Attributes:
        similarity: measure of the feature difference.
        regulariser: cost of rough displacements.
        volume_strength: factor of the cost of volume changes; see `VolumeChange`.
        iterations: maximum number; 0 leaves the field unchanged.
        learning_rate: step size of Adam, cells.
        levels: resolution levels, each twice as coarse as the next.
        smoothing_kernel: width of the box filter applied at each step, cells, odd.
        smoothing_repeats: number of passes.
        convergence_tolerance: Adam stops when ten iterations lower the energy by less than this fraction; 0 disables
            this.
    """

    similarity: Similarity = SquaredDifference()
    regulariser: Regulariser = Diffusion(1.25)
    volume_strength: float = 0.0
    iterations: int = 80
    learning_rate: float = 1.0
    levels: int = 3
    smoothing_kernel: int = 3
    smoothing_repeats: int = 3
    convergence_tolerance: float = 0.002


@dataclass(frozen=True)
class Optimised:
    """The refined displacement (3, z, y, x) in cells, and the energy at each iteration on the finest level."""

    displacement: torch.Tensor
    energies: tuple[float, ...]


@dataclass(frozen=True)
class InstanceOptimisation:
    """Stage: refinement on the features. With two encoders each is refined alone, then one is chosen to lead.

    Attributes:
        descent: parameters of the minimisation.
    """

    descent: Descent = Descent()

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the displacement of the leading features; see `Stage`."""
        if not found.alone:
            optimised = optimise_instance(
                found.terms,
                found.displacement,
                self.descent,
                progress,
                kept_volume=volumes.kept_volume,
                points=volumes.points,
            )
            return found.refined(optimised.displacement, energies=optimised.energies)
        count = len(found.alone)
        starts, terms, results = [], [], []
        for encoder, start in enumerate(found.alone):
            start, term = self._better_start(volumes, encoder, start)
            part = (encoder / count, 1.0 / count)
            starts.append(start)
            terms.append(term)
            results.append(
                optimise_instance([term], start, self.descent, progress, part, volumes.kept_volume, volumes.points)
            )
        gain = 0.0
        if count > 1:
            gain = gain_of_details(volumes.features, [result.displacement for result in results], volumes.weights)
        lead = int(details_lead(gain))
        return replace(
            found,
            displacement=results[lead].displacement,
            alone=(),
            terms=(terms[lead],),
            earlier=(*found.earlier, starts[lead]),
            energies=results[lead].energies,
            gain_of_details=gain,
        )

    def _better_start(self, volumes: Volumes, encoder: int, start: torch.Tensor) -> tuple[torch.Tensor, Term]:
        """Return a start, or zero if that is no worse: without structure the search result is arbitrary."""
        term, nowhere = volumes.term(encoder, start), torch.zeros_like(start)
        if energy_of(term, nowhere, self.descent) < energy_of(term, start, self.descent):
            return nowhere, volumes.term(encoder, nowhere)
        return start, term


def optimise_instance(
    terms: Sequence[Term],
    displacement: torch.Tensor,
    descent: Descent,
    progress: Progress,
    part: tuple[float, float] = (0.0, 1.0),
    kept_volume: float = 1.0,
    points: PointPairs | None = None,
) -> Optimised:
    """Refine a displacement by minimising the energy of this pair, coarse to fine.

    Args:
        terms: the features to match, all on one grid; their differences are added.
        displacement: (3, z, y, x) start, in cells, components (z, y, x), from fixed to moving.
        descent: parameters of the minimisation.
        progress: receives each iteration.
        part: start and fraction within the current progress step.
        kept_volume: Jacobian determinant that does not cost anything.
        points: given points to map to each other as well.
    """
    shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
    levels = _levels(shape, descent)
    work = [len(level.steps) / level.factor**3 for level in levels]
    optimised = Optimised(displacement, ())
    for index, level in enumerate(levels):
        before, share = (part[1] * done / sum(work) for done in (sum(work[:index]), work[index]))
        start = pool(optimised.displacement, level.factor) / level.factor
        pooled = [term.pooled(level.factor) for term in terms]
        differences: list[Difference] = [FeatureDifference(term, descent.similarity) for term in pooled]
        if descent.volume_strength:
            differences.append(VolumeChange(descent.volume_strength, pooled[0].weight, kept_volume))
        if points is not None:
            differences.append(PointDifference(points.pooled(level.factor)))
        found = descend(differences, start, level.steps, descent, progress, (part[0] + before, share))
        if level.factor > 1:  # finer detail of the start is kept
            change = upsample(found.displacement - start, level.factor, shape)
            found = Optimised(optimised.displacement + change, ())
        optimised = found
    return optimised


@dataclass(frozen=True)
class _Level:
    """Cell size in cells of the finest grid, and the step size of Adam at each iteration."""

    factor: int
    steps: tuple[float, ...]


def _levels(shape: tuple[int, int, int], descent: Descent) -> list[_Level]:
    """Return the levels, the coarsest first."""
    factors = [1]
    while len(factors) < descent.levels and min(shape) >= 2 * factors[0] * _LEAST_CELLS:
        factors.insert(0, 2 * factors[0])
    if descent.iterations == 0:
        return []
    if len(factors) == 1:
        return [_Level(1, (descent.learning_rate,) * descent.iterations)]
    levels = []
    for factor in factors:
        share, length = _FINEST if factor == 1 else _COARSER
        count = math.ceil(share * descent.iterations)
        levels.append(_Level(factor, shortening_steps(length * descent.learning_rate, count)))
    return levels


def shortening_steps(first: float, count: int) -> tuple[float, ...]:
    """Return step sizes of Adam that decay linearly towards zero."""
    return tuple(first * (1.0 - index / count) for index in range(count))


def descend(
    differences: Sequence[Difference],
    displacement: torch.Tensor,
    steps: Sequence[float],
    descent: Descent,
    progress: Progress,
    part: tuple[float, float] = (0.0, 1.0),
) -> Optimised:
    """Minimise the sum of differences and the regulariser by Adam on one grid; return the field of lowest energy.

    Args:
        differences: of the features.
        displacement: (3, z, y, x) start, in cells.
        steps: step size of each iteration, cells.
        descent: regulariser, smoothing, convergence tolerance.
        progress: receives each iteration.
        part: start and fraction within the current progress step.
    """
    matrices = smoothing_matrices(displacement, descent.smoothing_kernel, descent.smoothing_repeats)
    adjoint = [matrix.T for matrix in matrices]
    parameter, best = displacement.clone(), displacement.clone()
    adam = Adam(parameter)
    course = Course(len(steps), displacement, descent.convergence_tolerance)
    for iteration, step in enumerate(steps):
        progress.advance(part[0] + part[1] * iteration / len(steps))
        smooth = filtered(parameter, matrices)
        energy, gradient = energy_and_gradient(differences, smooth, descent.regulariser)
        torch.where(course.add(energy), smooth, best, out=best)
        adam.step(filtered(gradient, adjoint), step)
        if course.is_over():
            break
    return Optimised(best, course.energies())


def energy_of(term: Term, displacement: torch.Tensor, descent: Descent) -> float:
    """Return the energy of one displacement (3, z, y, x), in cells."""
    difference = FeatureDifference(term, descent.similarity)
    return float(energy_and_gradient([difference], displacement, descent.regulariser)[0])


def energy_and_gradient(
    differences: Sequence[Difference],
    displacement: torch.Tensor,
    regulariser: Regulariser,
) -> tuple[Cost, torch.Tensor]:
    """Return the sum of differences and of the regulariser, and its gradient (3, z, y, x); see `descend`."""
    gradient = torch.zeros_like(displacement)
    energy = sum(difference.add_to(gradient, displacement) for difference in differences)
    return energy + regulariser.add_to(gradient, displacement), gradient
