"""Resampling of reduced tokens and descriptors to the instance optimisation grid.

The paper upsamples the reduced features to every voxel and ConvexAdam then averages them over cells. Both steps are
linear and separable, so here they are combined in one small matrix per axis, without features at full resolution.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..encoders import Encoder
from ..runtime.progress import Progress
from .slices import Square

_SLAB_VOXELS = 2_000_000


def tokens_to_grid(
    tokens: torch.Tensor, slices: list[int], shape: tuple[int, int, int], factor: int, square: Square | None = None
) -> torch.Tensor:
    """Interpolate tokens linearly to the voxels of a volume and average them over cells.

    Args:
        tokens: (N, d, h, w); the h x w tokens tile the square.
        slices: the N encoded slices; slices between them are interpolated.
        shape: working grid (Z, H, W).
        factor: voxels along one side of a cell.
        square: encoded part of each slice; the square of max(H, W) voxels from the first one if None. Beyond it the
            nearest token is used.

    Returns:
        (d, ceil(Z / factor), ceil(H / factor), ceil(W / factor)).
    """
    top, left, side = square or Square(0, 0, max(shape[1:]))
    rows, columns = tokens.shape[-2:]
    along_z = _pooling_matrix(np.arange(shape[0]), np.asarray(slices, dtype=float), factor)
    along_y = _pooling_matrix(np.arange(shape[1]), top + (np.arange(rows) + 0.5) * side / rows - 0.5, factor)
    along_x = _pooling_matrix(np.arange(shape[2]), left + (np.arange(columns) + 0.5) * side / columns - 0.5, factor)
    cells = (len(along_z), len(along_y), len(along_x))
    along_z, along_y, along_x = (matrix.to(tokens.device) for matrix in (along_z, along_y, along_x))
    result = tokens.new_empty(tokens.shape[1], *cells)
    for channel, target in zip(tokens.unbind(1), result, strict=True):
        in_plane = along_y @ channel @ along_x.T
        torch.mm(along_z, in_plane.flatten(1), out=target.view(cells[0], -1))
    return result


def _pooling_matrix(voxels: np.ndarray, nodes: np.ndarray, factor: int) -> torch.Tensor:
    """Return the matrix (cells, nodes) of linear interpolation from nodes to voxels, then averaging over cells.

    Voxels beyond the first or last node take its value; an incomplete last cell averages its voxels.
    """
    cells = -(-len(voxels) // factor)
    if len(nodes) == 1:
        return torch.ones(cells, 1)
    position = np.clip(np.interp(voxels, nodes, np.arange(len(nodes))), 0, len(nodes) - 1)
    left = np.minimum(position.astype(int), len(nodes) - 2)
    matrix = np.zeros((cells, len(nodes)), dtype=np.float32)
    cell = voxels // factor
    count = np.bincount(cell)[cell]
    np.add.at(matrix, (cell, left), (1.0 - (position - left)) / count)
    np.add.at(matrix, (cell, left + 1), (position - left) / count)
    return torch.from_numpy(matrix)


def pooled_descriptor(encoder: Encoder, volume: torch.Tensor, factor: int, progress: Progress) -> torch.Tensor:
    """Return a volume descriptor (C, z, y, x) averaged over cells, computed in slabs of limited memory."""
    depth = volume.shape[0]
    per_slab = max(1, _SLAB_VOXELS // (volume.shape[1] * volume.shape[2] * factor)) * factor
    parts = []
    for start in range(0, depth, per_slab):
        progress.check_cancelled()
        stop = min(start + per_slab, depth)
        low, high = max(0, start - encoder.reach), min(depth, stop + encoder.reach)
        with torch.inference_mode():
            features = encoder.encode(volume[None, low:high])[0, :, start - low : stop - low]
        parts.append(pool(features, factor))
    return torch.cat(parts, dim=1)


def pool(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Average (C, z, y, x) over cells of `factor` voxels; incomplete cells at the end average their voxels."""
    if factor == 1:
        return volume
    if volume.device.type == "mps":  # which has no average pooling in 3D
        for axis in (1, 2, 3):
            volume = _pooled_along(volume, axis, factor)
        return volume
    cell = [min(factor, size) for size in volume.shape[1:]]  # torch refuses windows larger than the volume
    return F.avg_pool3d(volume[None], cell, stride=factor, ceil_mode=True, count_include_pad=False)[0]


def _pooled_along(volume: torch.Tensor, axis: int, factor: int) -> torch.Tensor:
    """Average (C, z, y, x) over `factor` voxels along one axis, fewer in the last cell."""
    missing = -volume.shape[axis] % factor
    if missing:
        shape = [missing if at == axis else size for at, size in enumerate(volume.shape)]
        volume = torch.cat([volume, volume.new_zeros(shape)], dim=axis)
    mean = volume.unflatten(axis, (-1, factor)).mean(axis + 1)
    mean.narrow(axis, mean.shape[axis] - 1, 1).mul_(factor / (factor - missing))
    return mean
