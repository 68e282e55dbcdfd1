"""Means and maxima over the cube around each cell, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F


def mean_around(volume: torch.Tensor, reach: int) -> torch.Tensor:
    """Average (C, z, y, x) over the neighbours that exist, up to `reach` cells along each axis."""
    return _along_axes(partial(F.avg_pool3d, count_include_pad=False), volume, reach)


def max_around(volume: torch.Tensor, reach: int) -> torch.Tensor:
    """Return the largest value of (C, z, y, x) up to `reach` cells along each axis."""
    return _along_axes(F.max_pool3d, volume, reach)


def _along_axes(pool: Callable[..., torch.Tensor], volume: torch.Tensor, reach: int) -> torch.Tensor:
    for axis in range(3):
        window, padding = [1, 1, 1], [0, 0, 0]
        window[axis], padding[axis] = 2 * reach + 1, reach
        volume = pool(volume[None], window, stride=1, padding=padding)[0]
    return volume
