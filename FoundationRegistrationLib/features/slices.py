"""Selection of the encoded slices of a volume, and of the square within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Square(NamedTuple):
    """The part of every axial slice that is encoded, in voxels; beyond the grid it is zero.

    Attributes:
        top: first row, y.
        left: first column, x.
        side: rows and columns.
    """

    top: int
    left: int
    side: int

    def cut(self, slices: torch.Tensor) -> torch.Tensor:
        """Return this part of slices (N, H, W) as (N, side, side)."""
        part = slices[:, self.top : self.top + self.side, self.left : self.left + self.side]
        return F.pad(part, (0, self.side - part.shape[2], 0, self.side - part.shape[1]))


def encoded_slice_indices(depth: int, gap: int) -> list[int]:
    """Return the slices to encode: every `gap`-th from the first, and the last."""
    return sorted({*range(0, depth, gap), depth - 1})


def foreground_square(masks: Sequence[torch.Tensor], margin: int) -> Square:
    """Return the square around the foregrounds of both volumes, the same for all slices.

    Args:
        masks: (Z, H, W) of each volume; nonzero in the foreground.
        margin: voxels around the foreground.

    Returns:
        The smallest square with the in-plane foregrounds and their margin, within the grid; it extends beyond the
        last row or column only if the grid is too narrow for a square.
    """
    plane = torch.stack([mask.ne(0).any(0) for mask in masks]).any(0).cpu()
    if not plane.any():
        return Square(0, 0, max(plane.shape))
    extents = []
    for axis, size in enumerate(plane.shape):
        occupied = plane.any(1 - axis).nonzero()
        extents.append((max(0, int(occupied[0]) - margin), min(size, int(occupied[-1]) + 1 + margin)))
    side = max(high - low for low, high in extents)
    top, left = (
        min(max(0, low - (side - (high - low)) // 2), max(0, size - side))
        for (low, high), size in zip(extents, plane.shape, strict=True)
    )
    return Square(top, left, side)


def slices_with_foreground(mask: torch.Tensor, slices: list[int], margin: int) -> list[bool]:
    """Return for each slice whether it must be encoded.

    A slice may be omitted only if neither it nor any slice interpolated from it has foreground within `margin`
    slices, so that tokens of an empty slice never affect the foreground.

    Args:
        mask: (Z, H, W), nonzero in the foreground.
        slices: candidates, ascending.
        margin: slices around the foreground that count as foreground.
    """
    occupied = mask.flatten(1).ne(0).any(1)
    near = F.max_pool1d(occupied[None].float(), 2 * margin + 1, stride=1, padding=margin)[0].bool().tolist()
    before, after = [-1, *slices[:-1]], [*slices[1:], len(near)]
    return [any(near[low + 1 : high]) for low, high in zip(before, after, strict=True)]


def token_foreground(mask: torch.Tensor, slices: list[int], square: Square, tokens: tuple[int, int]) -> torch.Tensor:
    """Return which tokens are mostly foreground, (N, h, w) bool on the host."""
    seen = square.cut(mask[slices].float()).cpu()  # MPS only averages over equal areas
    return F.interpolate(seen[:, None], size=tokens, mode="area")[:, 0] > 0.5
