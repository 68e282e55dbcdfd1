"""Last stage: small composed steps along the local correlation of the intensities, coarse to fine.

Features of cells leave fine structures some millimetres off. This stage moves the tissue like a viscous fluid: the
force at each voxel increases the squared local correlation, a kernel makes it a smooth, nearly incompressible
velocity, and the field follows that for a step so short that it cannot fold. Composed steps go as far as needed,
without the stiffness that a penalty on the displacement would have. A slight smoothing of the whole field after each
step spreads the motion into tissue without structure.

Coarse levels go further, but mislead where contrasts differ: coarse intensities can then correlate better and better
while the field runs away. The features judge them.

Given structures and points add their own forces, so that what they moved is not undone.

Sources: Christensen et al., IEEE TIP 1996 (fluid registration); Avants et al., Medical Image Analysis 2008 and
Yushkevich et al., greedy (composed steps along the local correlation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import SettingsError
from ..features import pool
from ..runtime.progress import Progress
from ..spatial.sampling import Weights, compose_displacements, upsample, warp
from .adam import Course
from .crop import Crop
from .point_pairs import PointDifference
from .regularisers import filtered, gaussian_matrices
from .similarities import Difference, FeatureDifference, SquaredDifference, Term
from .squared_correlation import squared_correlation
from .stages import Found, Pair, Volumes
from .velocity import VelocityKernel

_LEAST_CELLS = 8  # of the coarsest level along each axis
# Longest step, voxels of the level: below 1 the map stays invertible.
_STEP = 0.5
# Where the features differ by more than this factor after the coarse levels, what these did is dropped.
_MISLED = 1.15
# A level ends when ten steps lower the unexplained fraction by less than this fraction of it.
_CONVERGED = 0.005


@dataclass(frozen=True)
class FluidRefinement:
    """Stage: refinement by composed small steps.

    Attributes:
        iterations: at most, at each level; the finest has half of them.
        smoothing: standard deviation of the kernel of velocities, voxels of the level.
        field_smoothing: of the Gaussian that smooths the field after each step, voxels of the level.
        compressibility: factor of velocities that change volumes, 0 to 1.
        radius: half-width of the correlation windows, voxels of the level.
    """

    iterations: int = 60
    smoothing: float = 3.0
    field_smoothing: float = 1.0
    compressibility: float = 0.1
    radius: int = 2

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the refined displacement; see `Stage`.

        Raises:
            SettingsError: there is nothing to compare.
        """
        guided = volumes.structures is not None or volumes.points is not None
        if volumes.intensities is None and not guided:
            msg = "FluidRefinement compares intensities; give them, or omit this stage."
            raise SettingsError(msg)
        per_cell = 1 if volumes.intensities is None else volumes.spacing // volumes.intensity_spacing
        # Structures and points may drive where the fixed volume has no weight.
        weight = None if guided else volumes.weights[0]
        displacement = self.refined(
            volumes.intensities,
            found.displacement,
            per_cell,
            volumes.weights,
            progress,
            crop=Crop.around(weight, tuple(found.displacement.shape[1:])),
            guides=lambda factor: _guides(volumes, found.displacement, factor),
            disagreement=lambda displacement: _disagreement(volumes, displacement),
        )
        return found.refined(displacement)

    def refined(
        self,
        intensities: Pair | None,
        displacement: torch.Tensor,
        per_cell: int,
        weights: Weights,
        progress: Progress,
        crop: Crop | None = None,
        guides: Callable[[int], Sequence[Difference]] = lambda factor: (),
        disagreement: Callable[[torch.Tensor], float] = lambda displacement: 1.0,
    ) -> torch.Tensor:
        """Return the refined displacement.

        Args:
            intensities: (Z, Y, X) of both volumes in 0..1; None if guides alone drive.
            displacement: (3, z, y, x) in cells, from fixed to moving.
            per_cell: voxels along one side of a cell.
            weights: (z, y, x) in 0..1, weights of the fixed and the moving cells; None for all 1.
            progress: told of each step.
            crop: the cells of the fixed volume that the finest level refines, without guides; None for all.
            guides: returns what else is minimised, on cells larger by a factor.
            disagreement: returns by how much the features differ under a displacement.
        """
        shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
        factors = [1]
        while min(shape) >= 2 * factors[0] * _LEAST_CELLS:
            factors.insert(0, 2 * factors[0])
        counts = [self.iterations if factor > 1 else -(-self.iterations // 2) for factor in factors]
        work = [count / factor**3 for count, factor in zip(counts, factors, strict=True)]
        whole = sum(work) or 1.0

        everything = Crop.around(None, shape)

        def flowed(start: torch.Tensor, turn: int) -> torch.Tensor:
            factor, part = factors[turn], (sum(work[:turn]) / whole, work[turn] / whole)
            # Coarse velocities reach far, so that still air around the body holds it.
            box = (crop or everything) if factor == 1 else everything
            volumes = intensities and (box.of(intensities[0], per_cell), intensities[1])
            fixed_weight = None if weights[0] is None else box.of(weights[0])
            inner = box.of(start)
            within = (inner.shape[1], inner.shape[2], inner.shape[3])
            first = start.new_tensor(box.low)
            level = _Level(self, volumes, (fixed_weight, weights[1]), per_cell, factor, first, guides(factor))
            pooled = pool(inner, factor) / factor
            change = level.flowed(pooled, counts[turn], progress, part) - pooled
            return start + box.extended(upsample(change, factor, within))

        led = displacement
        for turn in range(len(factors) - 1):
            led = flowed(led, turn)
        if disagreement(led) > _MISLED * disagreement(displacement):
            led = displacement
        return flowed(led, len(factors) - 1)


class _Level:
    """Both volumes at one resolution.

    Args:
        stage: the parameters.
        intensities: (Z, Y, X) of a part of the fixed volume and of the moving volume; None if guides alone drive.
        weights: (z, y, x) of the same on cells, or None.
        per_cell: voxels along one side of a cell, at each level.
        factor: how much coarser than the volumes.
        first: (3,) place of the first cell of the part in the moving volume without displacement, cells; 0 but at the
            finest level.
        guides: what else is minimised, on the cells of this level.
    """

    def __init__(
        self,
        stage: FluidRefinement,
        intensities: Pair | None,
        weights: Weights,
        per_cell: int,
        factor: int,
        first: torch.Tensor,
        guides: Sequence[Difference],
    ) -> None:
        self._stage, self._per_cell, self._guides = stage, per_cell, guides
        self._volumes: Pair | None = None
        if intensities is not None:
            fixed, moving = (pool(volume[None], factor)[0] for volume in intensities)
            self._volumes = fixed, moving
            self._first = first[:, None, None, None]
            self._weights = [
                pool(_all_ones(volume, per_cell) if weight is None else weight[None], factor)
                for volume, weight in zip(intensities, weights, strict=True)
            ]

    def flowed(
        self, displacement: torch.Tensor, count: int, progress: Progress, part: tuple[float, float]
    ) -> torch.Tensor:
        """Return the displacement (3, z, y, x) in cells after at most `count` steps."""
        stage, per_cell = self._stage, self._per_cell
        shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
        kernel = VelocityKernel(shape, stage.smoothing / per_cell, stage.compressibility, displacement.device)
        smoothing = gaussian_matrices(displacement, stage.field_smoothing / per_cell)
        best = displacement
        course = Course(count, displacement, _CONVERGED)
        for iteration in range(count):
            progress.advance(part[0] + part[1] * iteration / count)
            cost, force = self._unexplained(displacement)
            if self._guides:
                gradient = torch.zeros_like(force)
                cost = cost + sum(guide.add_to(gradient, displacement) for guide in self._guides)
                force -= gradient.mul_(displacement[0].numel() / per_cell)
            best = torch.where(course.add(cost), displacement, best)
            if course.is_over():
                break
            velocity = kernel(force)
            longest = velocity.square().sum(0).amax().sqrt().clamp_min_(torch.finfo(velocity.dtype).tiny)
            velocity *= _STEP / per_cell / longest
            displacement = filtered(compose_displacements(velocity, displacement), smoothing)
        return best

    def _unexplained(self, displacement: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the fraction of the intensities' structure that is not explained, and the force on the cells."""
        if self._volumes is None:
            return displacement.new_zeros(()), torch.zeros_like(displacement)
        fixed, moving = self._volumes
        shape = (fixed.shape[0], fixed.shape[1], fixed.shape[2])
        moved = displacement + self._first
        carried = warp(moving[None], upsample(moved, self._per_cell, shape))[0]
        counted = self._weights[0] * warp(self._weights[1], moved, "zeros")
        explained, derivative = squared_correlation(
            fixed, carried, _repeated(counted[0], self._per_cell, shape), self._stage.radius
        )
        return 1.0 - explained, pool(_slopes(carried).mul_(derivative), self._per_cell)


def _guides(volumes: Volumes, displacement: torch.Tensor, factor: int) -> list[Difference]:
    """Return the differences of given structures and points, on cells larger by a factor."""
    guides: list[Difference] = []
    if volumes.structures is not None:
        term = Term(*volumes.structures, volumes.counted(displacement))
        guides.append(FeatureDifference(term.pooled(factor), SquaredDifference()))
    if volumes.points is not None:
        guides.append(PointDifference(volumes.points.pooled(factor)))
    return guides


def _disagreement(volumes: Volumes, displacement: torch.Tensor) -> float:
    """Return the mean squared difference of the features of all encoders where both volumes count."""
    unused, total = torch.zeros_like(displacement), displacement.new_zeros(())
    counted = volumes.counted(displacement)
    for encoder in range(len(volumes.features)):
        difference = FeatureDifference(volumes.term(encoder, displacement), SquaredDifference())
        total += difference.add_to(unused, displacement)
    return float(total if counted is None else total / counted.mean().clamp_min(torch.finfo(total.dtype).tiny))


def _all_ones(volume: torch.Tensor, per_cell: int) -> torch.Tensor:
    """Return a weight of 1, (1, z, y, x), for the cells of a volume, of which the last may be incomplete."""
    return volume.new_ones(1, *(-(-size // per_cell) for size in volume.shape))


def _slopes(volume: torch.Tensor) -> torch.Tensor:
    """Return central differences (3, z, y, x) of (z, y, x); 0 at the edges."""
    slopes = volume.new_zeros(3, *volume.shape)
    for axis, slope in enumerate(slopes):
        size = volume.shape[axis] - 2
        if size > 0:
            slope.narrow(axis, 1, size).copy_(volume.narrow(axis, 2, size) - volume.narrow(axis, 0, size)).mul_(0.5)
    return slopes


def _repeated(of_cells: torch.Tensor, factor: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return the cell values on a grid `factor` times finer, which may end within the last cells."""
    for axis, size in enumerate(shape):
        of_cells = of_cells.repeat_interleave(factor, axis).narrow(axis, 0, size)
    return of_cells
