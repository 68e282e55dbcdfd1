"""Refinement by voxelwise self-similarity.

Features are averages over cells, which blurs finer detail. This stage keeps the cells of the field but compares a
narrow MIND-SSC at single voxels, without averaging. Each iteration compares one voxel of every cell, the next
iteration another one, so it costs no more than comparing averages. Like MIND it does not require similar contrast in
both volumes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from ..encoders.mind import MindEncoder
from ..features import pool, voxel_descriptor
from ..runtime.progress import Progress
from .instance_optimisation import Descent, descend, energy_and_gradient, shortening_steps
from .regularisers import in_full
from .reliability import reliability
from .similarities import CELLS_PER_SLAB, Similarity, difference_at, indices_of
from .stages import Found, Volumes

# The narrowest descriptor: patches of 3 voxels, one voxel from the centre.
_RADIUS, _DILATION = 1, 1
# With more working voxels the descriptors would dominate the memory.
_MOST_VOXELS = 24_000_000


@dataclass(frozen=True)
class SelfSimilarity:
    """Stage: refinement by the self-similarity of single voxels.

    Attributes:
        descent: parameters of the minimisation. Iterations compare different voxels, so convergence is not tested.
    """

    descent: Descent = Descent(iterations=40, learning_rate=0.5, convergence_tolerance=0.0)

    def intensity_spacing(self, voxels: int, voxel_mm: float, spacing: int) -> int | None:
        """Return 1 (working voxels); None if there are too many."""
        return 1 if voxels <= _MOST_VOXELS else None

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the refined displacement; see `Stage`."""
        if self.intensity_spacing(volumes.voxels, volumes.voxel_mm, volumes.spacing) is None:
            return found
        found.check_cells(volumes, self)
        before = found.displacement
        displacement = self.refined(
            *volumes.intensities[1], before, volumes.spacing, volumes.counted(before), progress, found.stiffness
        )
        return found.refined(displacement)

    def refined(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        displacement: torch.Tensor,
        factor: int,
        weight: torch.Tensor | None,
        progress: Progress,
        stiffness: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the displacement refined by the self-similarity of single voxels.

        Voxels are weighted by how well the displacement already explains their descriptors, so that new or vanished
        lesions and structures of one modality exert little force. If the agreement does not improve on the voxels
        compared first, the displacement is returned unchanged.

        Args:
            fixed: (Z, Y, X) intensities in 0..1 on the working grid.
            moving: the same for the moving volume.
            displacement: (3, z, y, x) in cells, from fixed to moving.
            factor: working voxels along one side of a cell.
            weight: (z, y, x) in 0..1, weight of each cell; None for all 1.
            progress: told of each iteration.
            stiffness: (z, y, x), how many times the regulariser counts at each cell; None for once everywhere.
        """
        encoder = MindEncoder(_RADIUS, _DILATION)
        # Fixed descriptors are not interpolated: half precision suffices, with half the memory.
        fixed = voxel_descriptor(encoder, fixed, torch.float16, progress)
        moving = voxel_descriptor(encoder, moving, torch.float32, progress)
        # Squared, since unrelated descriptors also explain something: all are 1 somewhere and never below 0.
        trusted = reliability(_averages(fixed, factor), _averages(moving, factor), displacement, weight).square_()
        counted = trusted if weight is None else trusted * weight
        difference = _VoxelDifference(fixed, moving, counted, factor, self.descent.similarity)
        steps = shortening_steps(self.descent.learning_rate, self.descent.iterations)
        found = descend(
            [difference], displacement, steps, self.descent, progress, stiffness=stiffness, comparable=False
        )
        difference.start_over()
        energy, _ = energy_and_gradient([difference], found.displacement, self.descent.regulariser, stiffness)
        return found.displacement if float(energy) < found.energies[0] else displacement


def _averages(features: torch.Tensor, factor: int) -> torch.Tensor:
    """Return voxel features averaged over cells, one channel at a time, since each must be copied."""
    return torch.cat([pool(channel.float(), factor) for channel in features.split(1)])


class _VoxelDifference:
    """The difference at single voxels of each cell, different ones at each evaluation until all were used.

    Args:
        fixed: (C, Z, Y, X) features, channels contiguous in memory.
        moving: the same for the moving volume.
        weight: (z, y, x), weight of each cell.
        factor: voxels along one side of a cell.
        similarity: measure of the descriptor difference.
    """

    def __init__(
        self, fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor, factor: int, similarity: Similarity
    ) -> None:
        self._similarity = similarity
        self._fixed, self._moving = fixed.permute(1, 2, 3, 0).flatten(0, 2), moving
        self._voxels, self._cells, self._factor = fixed.shape[1:], weight.shape, factor
        flat = weight.flatten()
        counted = flat.nonzero()[:, 0]
        self._slabs = [(cells, flat[cells]) for cells in counted.split(CELLS_PER_SLAB)]
        offsets = list(itertools.product(range(factor), repeat=3))
        # In a reproducible shuffled order, so that no side of the cells dominates.
        order = torch.randperm(len(offsets), generator=torch.Generator().manual_seed(0))
        self._in_order = torch.tensor(offsets)[order][:, :, None].to(moving.device).unbind()
        self._last = torch.tensor(self._voxels)[:, None].to(moving.device) - 1
        self.start_over()

    def start_over(self) -> None:
        """Restart with the voxels compared first."""
        self._offsets = itertools.cycle(self._in_order)

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Return the mean difference over all cells; add its gradient (3, z, y, x) in place."""
        count = self._cells.numel()
        gradient, displacement = gradient.view(3, -1), displacement.reshape(3, -1)
        offset = next(self._offsets)
        total = gradient.new_zeros(())
        for cells, weight in self._slabs:
            # Cells at the end may be incomplete.
            voxels = torch.minimum(
                self._factor * indices_of(cells, self._cells, gradient.device) + offset, self._last
            )
            rows = (voxels[0] * self._voxels[1] + voxels[1]) * self._voxels[2] + voxels[2]
            positions = self._factor * displacement[:, cells] + voxels
            fixed = self._fixed[rows].to(displacement.dtype).T
            energy, pull = difference_at(positions, fixed, self._moving, weight, self._similarity)
            total += energy
            gradient[:, cells] += pull.mul_(self._factor / count)
        return in_full(total) / count
