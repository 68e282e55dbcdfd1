"""Features as colours, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from .reduction import reduce_jointly

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..spatial.grids import WorkingGrid

_COLOURS = 3
# Values beyond these percentiles of both volumes become black or full colour.
_PERCENTILES = (1.0, 99.0)
_SAMPLES = 1_000_000


def feature_preview(
    features: Sequence[torch.Tensor], foregrounds: Sequence[torch.Tensor], grid: WorkingGrid
) -> tuple[sitk.Image, sitk.Image]:
    """Return the first three principal components of both volumes as red, green and blue.

    A colour means the same feature in both volumes; black outside the foreground.

    Args:
        features: (C, z, y, x) of the fixed and of the initially aligned moving volume: principal components, or a
            descriptor whose components are computed here.
        foregrounds: (z, y, x) of both, the foreground fraction of each cell.
        grid: of the cells.

    Returns:
        Two volumes of three 8-bit components on the grid, in the space of the fixed volume.
    """
    pair = [volume.float().cpu() for volume in features]
    inside = [share.cpu() > 0 for share in foregrounds]
    if len(pair[0]) > _COLOURS:
        reduced, _ = reduce_jointly([volume.movedim(0, 1) for volume in pair], inside, _COLOURS)
        pair = [volume.movedim(1, 0) for volume in reduced]
    channels = [
        torch.cat([volume[index][mask] for volume, mask in zip(pair, inside, strict=True)])
        for index in range(len(pair[0]))
    ]
    ranges = [_robust_range(channel.numpy()) for channel in channels]
    fixed, moving = (
        grid.image(_as_bytes(volume.numpy(), mask.numpy(), ranges), is_vector=True)
        for volume, mask in zip(pair, inside, strict=True)
    )
    return fixed, moving


def _robust_range(values: np.ndarray) -> tuple[float, float]:
    """Return the values that become black and full colour."""
    low, high = np.percentile(values[:: max(1, values.size // _SAMPLES)], _PERCENTILES)
    return float(low), float(max(high, low + np.finfo(np.float32).tiny))


def _as_bytes(volume: np.ndarray, inside: np.ndarray, ranges: list[tuple[float, float]]) -> np.ndarray:
    """Return (C, z, y, x) as (z, y, x, 3) in 0 to 255, zero outside and in colours without a component."""
    result = np.zeros((*inside.shape, _COLOURS), np.uint8)
    for index, (low, high) in enumerate(ranges):
        scaled = ((volume[index] - low) / (high - low)).clip(0.0, 1.0)
        result[..., index] = (255.0 * scaled).round() * inside
    return result
