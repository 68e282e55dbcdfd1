"""The part of the working grid in which the volumes drive, so that no time goes into the air around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_AROUND_CELLS = 4


@dataclass(frozen=True)
class Crop:
    """A box of cells.

    Attributes:
        low: first cell along z, y and x.
        high: the cell after the last one.
        shape: of the whole grid, cells.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def around(cls, weight: torch.Tensor | None, shape: tuple[int, ...]) -> Crop:
        """Return the box around the cells with weight, and four more on each side; the whole grid without weights."""
        if weight is None or not weight.any():
            return cls((0,) * len(shape), shape, shape)
        low, high = [], []
        for axis, size in enumerate(shape):
            along = (weight > 0).movedim(axis, 0).flatten(1).any(1)
            places = torch.nonzero(along).flatten().tolist()
            low.append(max(0, places[0] - _AROUND_CELLS))
            high.append(min(size, places[-1] + 1 + _AROUND_CELLS))
        return cls(tuple(low), tuple(high), shape)

    def of(self, values: torch.Tensor, per_cell: int = 1) -> torch.Tensor:
        """Return the part of (..., z, y, x) in the box; each cell has `per_cell` values along one side."""
        for axis, (low, high) in enumerate(zip(self.low, self.high, strict=True), start=-len(self.shape)):
            stop = min(per_cell * high, values.shape[axis])  # the grid may end within the last cells
            values = values.narrow(axis, per_cell * low, stop - per_cell * low)
        return values

    def extended(self, change: torch.Tensor) -> torch.Tensor:
        """Return a change of the displacement in the box, (3, z, y, x), on the whole grid: its border goes on."""
        for axis, (low, size) in enumerate(zip(self.low, self.shape, strict=True), start=1):
            nearest = torch.arange(size, device=change.device).sub_(low).clamp_(0, change.shape[axis] - 1)
            change = change.index_select(axis, nearest)
        return change
