"""Trilinear interpolation by plain indexing, for devices without a 3D `grid_sample` (Apple's).

Equal to `sampling.sample` and `sampling.sample_gradient` up to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch


def looked_up(volume: torch.Tensor, positions: torch.Tensor, padding: str) -> torch.Tensor:
    """Return the volume (C, Z, Y, X) at positions (3, n) as (C, n); padding is "border" or "zeros"."""
    result = volume.new_zeros(volume.shape[0], positions.shape[1])
    for values, shares in _corners(volume, positions, padding):
        result += values * (shares[0] * shares[1] * shares[2])
    return result


def looked_up_gradient(volume: torch.Tensor, positions: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
    """Return the gradient (3, n) by position of (pull * looked_up(volume, positions, "border")).sum().

    Args:
        volume: (C, Z, Y, X).
        positions: (3, n); on the edge and beyond it the gradient is zero.
        pull: (C, n).
    """
    gradient = torch.zeros_like(positions)
    for (values, shares), corner in zip(_corners(volume, positions, "border"), _CORNERS, strict=True):
        pulled = (pull * values).sum(0)
        for axis, (one, other) in enumerate(((1, 2), (0, 2), (0, 1))):
            slope = pulled * shares[one] * shares[other]
            gradient[axis] += slope if corner[axis] else -slope
    for axis, size in enumerate(volume.shape[1:]):
        gradient[axis] *= (positions[axis] > 0) & (positions[axis] < size - 1)
    return gradient


_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def _corners(
    volume: torch.Tensor, positions: torch.Tensor, padding: str
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Yield the values (C, n) at the eight voxels around each position, and their weights (n) along each axis."""
    sizes = volume.shape[1:]
    flat = volume.flatten(1)
    if padding == "border":
        positions = torch.stack([along.clamp(0, size - 1) for along, size in zip(positions, sizes, strict=True)])
    low = positions.floor()
    above = positions - low
    for corner in _CORNERS:
        indices, shares = [], []
        for axis, (step, size) in enumerate(zip(corner, sizes, strict=True)):
            index = low[axis] + step
            share = above[axis] if step else 1.0 - above[axis]
            shares.append(share * ((index >= 0) & (index < size)))
            indices.append(index.clamp(0, size - 1).long())
        z, y, x = indices
        yield flat[:, (z * sizes[1] + y) * sizes[2] + x], shares
