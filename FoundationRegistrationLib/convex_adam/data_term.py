"""What two volumes of features differ by under a displacement, and how that changes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..features import pool
from ..spatial.sampling import sample, sample_gradient

# ConvexAdam takes the mean over channels times 12, the sum over the channels of MIND-SSC. Summing over the
# channels is the same for MIND and, with features of unit total variance, right for any number of channels.
CELLS_PER_SLAB = 262144  # many more take memory, many fewer keep several threads waiting for each other


@dataclass(frozen=True)
class Term:
    """Features that a displacement shall bring to agree.

    Attributes:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        weight: (z, y, x), how much the difference at each fixed cell counts; None counts all fully.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: torch.Tensor | None

    def pooled(self, factor: int) -> Term:
        """Return the term on cells `factor` times larger."""
        weight = None if self.weight is None else pool(self.weight[None], factor)[0]
        return Term(pool(self.fixed, factor), pool(self.moving, factor), weight)


class Difference(Protocol):
    """What a displacement shall lessen."""

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> float:
        """Return the mean over all cells of the squared difference; add its gradient (3, z, y, x) in place."""


@dataclass(frozen=True)
class _Slab:
    """Some of the cells that count: their indices in the flat grid, features (C, n) and weights (n)."""

    cells: slice | torch.Tensor
    fixed: torch.Tensor
    weight: torch.Tensor | None


class SquaredDifference:
    """The difference of a term's features, made ready to be evaluated many times.

    Cells without weight are left out. The channels of the moving features lie side by side in memory, so that a
    look-up touches one place for each corner and not one for each channel.
    """

    def __init__(self, term: Term) -> None:
        self._shape = term.fixed.shape[1:]
        self._moving = term.moving[None].contiguous(memory_format=torch.channels_last_3d)[0]
        self._slabs = list(_slabs(term))

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> float:
        """Return the mean over all cells of the squared difference; add its gradient (3, z, y, x) in place."""
        count = self._shape.numel()
        gradient, displacement = gradient.view(3, -1), displacement.reshape(3, -1)
        total = gradient.new_zeros(())
        for slab in self._slabs:
            positions = displacement[:, slab.cells] + indices_of(slab.cells, self._shape, gradient.device)
            energy, pull = squared_difference(self._moving, positions, slab.fixed, slab.weight)
            total += energy
            gradient[:, slab.cells] += pull.div_(count)
        return float(total) / count


def squared_difference(
    moving: torch.Tensor, positions: torch.Tensor, fixed: torch.Tensor, weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted sum of squared feature differences, and its gradient with respect to the positions.

    Args:
        moving: (C, z, y, x) features.
        positions: (3, n) continuous indices where they are looked up.
        fixed: (C, n) features that belong there.
        weight: (n), None for all alike.
    """
    pull = sample(moving, positions).sub_(fixed)
    weighted = pull if weight is None else pull * weight
    energy = torch.dot(pull.flatten(), weighted.flatten())
    return energy, sample_gradient(moving, positions, weighted).mul_(2.0)


def indices_of(cells: slice | torch.Tensor, shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return the index (3, n) along each axis of cells, which are given by their index in the flat grid."""
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
