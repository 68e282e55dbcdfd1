"""Corresponding points that the displacement should map to each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..spatial.sampling import sample
from .regularisers import in_full

# A point is pulled with a force that grows up to this distance, cells; beyond it, its force is constant (Huber).
_HUBER = 2.0
_BACKTRACKING_STEPS = 20


@dataclass(frozen=True)
class PointPairs:
    """Corresponding points on the cells of the features.

    Attributes:
        fixed: (3, N) continuous indices, components (z, y, x).
        moving: (3, N) the same points in the moving volume, on the same grid.
        weight: cost of one point that is off by one cell, relative to the feature difference of one cell.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: float

    @property
    def displacement(self) -> torch.Tensor:
        """The wanted displacement (3, N) of each point, cells."""
        return self.moving - self.fixed

    def pooled(self, factor: int) -> PointPairs:
        """Return the points on cells `factor` times larger."""
        fixed, moving = ((points + 0.5) / factor - 0.5 for points in (self.fixed, self.moving))
        return replace(self, fixed=fixed, moving=moving)

    def reversed(self) -> PointPairs:
        """Return the points for a search from moving to fixed."""
        return replace(self, fixed=self.moving, moving=self.fixed)

    def before(self, displacement: torch.Tensor) -> PointPairs:
        """Return the points for a moving volume that was warped by a displacement (3, z, y, x), cells."""
        places = self.moving
        for _ in range(_BACKTRACKING_STEPS):
            places = self.moving - sample(displacement, places)
        return replace(self, moving=places)

    def add_costs(self, costs: torch.Tensor, candidates: torch.Tensor) -> None:
        """Add to the cost of each candidate its squared distance from what a point wants, at the cells around it.

        Args:
            costs: (K, z, y, x), changed in place.
            candidates: (K, 3) displacements in cells.
        """
        sizes = costs.shape[1:]
        for place, wanted in zip(self.fixed.T.round().int().tolist(), self.displacement.T, strict=True):
            if not all(0 <= at < size for at, size in zip(place, sizes, strict=True)):
                continue
            z, y, x = (slice(max(at - 1, 0), at + 2) for at in place)
            costs[:, z, y, x] += self.weight * (candidates - wanted).square().sum(1)[:, None, None, None]


class PointDifference:
    """The distance of displaced points from where they should be, as a `Difference` to be minimised."""

    def __init__(self, points: PointPairs) -> None:
        self._points = points

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Return the Huber cost of all points, per cell, a scalar; add its gradient (3, z, y, x) in place."""
        points, shape = self._points, displacement.shape[1:]
        off = sample(displacement, points.fixed) - points.displacement
        distance = off.square().sum(0).sqrt()
        near = distance.clamp(max=_HUBER)
        factor = points.weight / shape.numel()
        pull = off * (2.0 * factor * near / distance.clamp_min(torch.finfo(distance.dtype).tiny))
        _spread(gradient, points.fixed, pull)
        return in_full(factor * (near * (2.0 * distance - near)).sum())


def _spread(field: torch.Tensor, places: torch.Tensor, values: torch.Tensor) -> None:
    """Add values (3, N) at continuous indices (3, N) to a field (3, z, y, x): the adjoint of `sample`."""
    limits = [size - 1 for size in field.shape[1:]]
    inside = torch.stack([place.clamp(0, limit) for place, limit in zip(places, limits, strict=True)])
    low = inside.floor()
    part = inside - low
    for corner in range(8):
        steps = [(corner >> axis) & 1 for axis in range(3)]
        weight = torch.ones_like(part[0])
        index = []
        for axis, step in enumerate(steps):
            weight = weight * (part[axis] if step else 1.0 - part[axis])
            index.append((low[axis] + step).clamp(max=limits[axis]).long())
        for component, value in zip(field, values, strict=True):
            component.index_put_(tuple(index), value * weight, accumulate=True)
