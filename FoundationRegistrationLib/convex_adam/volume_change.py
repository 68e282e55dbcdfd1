"""The cost of swelling and shrinking: soft tissue hardly changes its volume when it is pressed or hangs otherwise.

Source of the penalty on the Jacobian determinant: Rohlfing et al., IEEE TMI 2003 (doi:10.1109/TMI.2003.814791).
"""

from __future__ import annotations

import torch

from .regularisers import in_full


class VolumeChange:
    """The weighted mean squared deviation of the Jacobian determinant, prepared for repeated evaluation.

    Args:
        strength: factor of the mean.
        weight: (z, y, x), weight of each fixed cell; None for all 1.
        kept_volume: determinant that costs nothing.
    """

    def __init__(self, strength: float, weight: torch.Tensor | None, kept_volume: float = 1.0) -> None:
        self._strength, self._weight, self._kept_volume = strength, weight, kept_volume

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Return the cost of a displacement (3, z, y, x) in cells, a scalar; add its gradient in place.

        The determinant is that of the forward differences at each cell, which the last ones along an axis lack.
        """
        shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
        if min(shape) < 2:
            return displacement.new_zeros(())
        first = (slice(None), *(slice(0, size - 1) for size in shape))
        following = [
            tuple(slice(1, None) if at == axis else part for at, part in enumerate(first)) for axis in (1, 2, 3)
        ]
        edges = [displacement[place] - displacement[first] for place in following]
        for axis, edge in enumerate(edges):
            edge[axis] += 1.0
        cofactors = [torch.linalg.cross(edges[axis - 2], edges[axis - 1], dim=0) for axis in range(3)]
        change = (edges[0] * cofactors[0]).sum(0) - self._kept_volume
        weighted = change if self._weight is None else change * self._weight[first[1:]]
        pull = weighted * (2.0 * self._strength / change.numel())
        for place, cofactor in zip(following, cofactors, strict=True):
            step = cofactor.mul_(pull)
            gradient[place] += step
            gradient[first] -= step
        return self._strength * in_full((weighted * change).mean())
