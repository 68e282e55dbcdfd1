"""Features of a 3D network in overlapping windows, which limits memory and keeps the size it was trained with.

Near the border of a window the features are distorted by what the network assumes outside, so windows are blended
with Gaussian weights, as nnU-Net does (Isensee et al., Nature Methods 2021): half a window of overlap and a standard
deviation of an eighth. Normalisation by the statistics of the input (instance normalisation) sees a whole window.
"""

from __future__ import annotations

import itertools

import torch

from ..encoders import Encoder
from ..runtime.progress import Progress
from .grid import pool

_SPREAD = 1 / 8


def features_in_windows(
    encoder: Encoder, side: int, volume: torch.Tensor, factor: int, progress: Progress, done: float
) -> torch.Tensor:
    """Return the features of a volume, averaged over cells.

    Args:
        encoder: a volume encoder.
        side: voxels along each side of a window; shorter where the volume is.
        volume: (Z, H, W) intensities in 0..1.
        factor: voxels along one side of a cell.
        progress: receives each window; from `done`, half of the step is for this volume.
        done: completed fraction of the step.

    Returns:
        (C, ceil(Z / factor), ceil(H / factor), ceil(W / factor)).
    """
    side = max(side // factor, 1) * factor
    corners = list(itertools.product(*(_starts(size, side, factor) for size in volume.shape)))
    weights = volume.new_zeros([-(-size // factor) for size in volume.shape])
    total = weights.new_zeros(0)
    for index, corner in enumerate(corners):
        progress.advance(done + 0.5 * index / len(corners))
        window = volume[tuple(slice(start, start + side) for start in corner)]
        with torch.inference_mode():
            features = encoder.encode(window[None])[0]
        found = pool(features.float(), factor)
        weight = _weights(found, side / factor)
        cells = [
            slice(start // factor, start // factor + size) for start, size in zip(corner, weight.shape, strict=True)
        ]
        if index == 0:
            total = volume.new_zeros(len(found), *weights.shape)
        total[:, cells[0], cells[1], cells[2]] += found * weight
        weights[cells[0], cells[1], cells[2]] += weight
    return total.div_(weights)


def _starts(size: int, side: int, factor: int) -> list[int]:
    """Return the first voxels of evenly spread windows along an axis, which begin with a cell and overlap by half."""
    last = max(-(-(size - side) // factor), 0)  # in cells
    gaps = -(-2 * last * factor // side)
    return [round(last * index / gaps) * factor for index in range(gaps + 1)] if gaps else [0]


def _weights(features: torch.Tensor, cells: float) -> torch.Tensor:
    """Return the Gaussian weights (z, y, x) of the cells of a window of so many along each side."""
    result = features.new_ones(())
    for size in features.shape[1:]:
        offset = torch.arange(size, device=features.device, dtype=features.dtype) - (size - 1) / 2
        along = torch.exp(-0.5 * (offset / (_SPREAD * cells)).square())
        result = result[..., None] * along
    return result
