"""The difference of fixed and moving features under a displacement, and its gradient.

A similarity compares features pointwise. This module does the rest: interpolation of moving features, in slabs, and
the chain rule from features to displacements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..features import pool
from ..spatial.sampling import sample, sample_gradient
from .regularisers import in_full

CELLS_PER_SLAB = 262144  # many more need memory, many fewer make threads wait for each other


@dataclass(frozen=True)
class Term:
    """Features to be matched by a displacement.

    Attributes:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        weight: (z, y, x), weight of each fixed cell; None for all 1.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: torch.Tensor | None

    def pooled(self, factor: int) -> Term:
        """Return the term on cells `factor` times larger."""
        weight = None if self.weight is None else pool(self.weight[None], factor)[0]
        return Term(pool(self.fixed, factor), pool(self.moving, factor), weight)


class Similarity(Protocol):
    """A similarity measure of features; smaller is better."""

    def compare(
        self, fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted sum of differences, and its derivative by the moving features.

        Args:
            fixed: (C, n) features of n points.
            moving: (C, n) interpolated features, which may be changed in place.
            weight: (n), weight of each point; None for all 1.

        Returns:
            A scalar, and (C, n).
        """
        ...


@dataclass(frozen=True)
class SquaredDifference:
    """The sum over the channels of squared feature differences, as in ConvexAdam.

    ConvexAdam takes the mean over channels times 12, the sum over the channels of MIND-SSC. Summing over the channels
    is the same for MIND and, with features of unit total variance, right for any number of channels.
    """

    def compare(
        self, fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of weighted squares, and twice the weighted difference; see `Similarity`."""
        difference = moving.sub_(fixed)
        weighted = difference if weight is None else difference * weight
        energy = torch.dot(difference.flatten(), weighted.flatten())
        return energy, weighted.mul_(2.0)


class Difference(Protocol):
    """A difference to be minimised by a displacement."""

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Return the mean difference over all cells, a scalar; add its gradient (3, z, y, x) in place."""


@dataclass(frozen=True)
class _Slab:
    """Part of the weighted cells: their indices in the flat grid, features (C, n) and weights (n)."""

    cells: slice | torch.Tensor
    fixed: torch.Tensor
    weight: torch.Tensor | None


class FeatureDifference:
    """The difference of a term's features, prepared for repeated evaluation.

    Cells without weight are skipped. The channels of the moving features are contiguous in memory, so that
    interpolation accesses one block per corner, not one per channel.
    """

    def __init__(self, term: Term, similarity: Similarity) -> None:
        self._similarity = similarity
        self._shape = term.fixed.shape[1:]
        self._moving = term.moving[None].contiguous(memory_format=torch.channels_last_3d)[0]
        self._slabs = list(_slabs(term))

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Return the mean difference over all cells, a scalar; add its gradient (3, z, y, x) in place."""
        count = self._shape.numel()
        gradient, displacement = gradient.view(3, -1), displacement.reshape(3, -1)
        total = gradient.new_zeros(())
        for slab in self._slabs:
            positions = displacement[:, slab.cells] + indices_of(slab.cells, self._shape, gradient.device)
            energy, pull = difference_at(positions, slab.fixed, self._moving, slab.weight, self._similarity)
            total += energy
            gradient[:, slab.cells] += pull.div_(count)
        return in_full(total) / count


def difference_at(
    positions: torch.Tensor,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor | None,
    similarity: Similarity,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted sum of feature differences, and its gradient (3, n) by position.

    Args:
        positions: (3, n) continuous indices into the moving features.
        fixed: (C, n) features of these points.
        moving: (C, z, y, x) features.
        weight: (n); None for all 1.
        similarity: what features differ by.
    """
    energy, pull = similarity.compare(fixed, sample(moving, positions), weight)
    return energy, sample_gradient(moving, positions, pull)


def indices_of(cells: slice | torch.Tensor, shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return the indices (3, n) along each axis of cells given by flat index."""
    _, height, breadth = shape
    flat = torch.arange(cells.start, cells.stop, device=device) if isinstance(cells, slice) else cells
    rows = flat // breadth
    return torch.stack([rows // height, rows % height, flat % breadth])


def _slabs(term: Term) -> Iterator[_Slab]:
    fixed = term.fixed.flatten(1)
    if term.weight is None:
        for start in range(0, fixed.shape[1], CELLS_PER_SLAB):
            here = slice(start, min(start + CELLS_PER_SLAB, fixed.shape[1]))
            yield _Slab(here, fixed[:, here], None)
        return
    weight = term.weight.flatten()
    counted = weight.nonzero()[:, 0]
    for start in range(0, len(counted), CELLS_PER_SLAB):
        cells = counted[start : start + CELLS_PER_SLAB]
        yield _Slab(cells, fixed[:, cells], weight[cells])
