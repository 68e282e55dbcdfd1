"""Features of both volumes on the instance optimisation grid: slice loop, joint PCA, interpolation, pooling.

Paper section 2.1. The paper upsamples the reduced features to every voxel and ConvexAdam then averages them
over cells. Both steps are linear and separable, so here they are one small matrix per axis, and features
never exist at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from .encoders import Encoder, EncoderInfo
from .progress import Progress
from .settings import Settings

# Total variance over the channels that reduced features are scaled to, so that lambda and the coupling
# coefficients mean the same for every encoder as for MIND-SSC, for which the reference values were found.
FEATURE_VARIANCE = 1.0

_PCA_SAMPLES = 200_000
_SLICES_PER_BATCH = 2
_SLAB_VOXELS = 8_000_000


@dataclass(frozen=True)
class FeaturePair:
    """Features of both volumes on the same grid.

    Attributes:
        fixed: (C, z, y, x) on the working grid pooled by `adam_grid_spacing`.
        moving: the same for the moving volume.
        explained_variance: share of the tokens' variance that each principal component holds; empty without PCA.
        encoded_slices: number of slices that were encoded for each volume; 0 for volume encoders.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    explained_variance: tuple[float, ...]
    encoded_slices: int


def extract_features(
    encoder: Encoder,
    info: EncoderInfo,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    fixed_foreground: torch.Tensor,
    moving_foreground: torch.Tensor,
    settings: Settings,
    progress: Progress,
) -> FeaturePair:
    """Encode two volumes and reduce their features jointly.

    Args:
        encoder: the encoder that `info` describes.
        info: its facts.
        fixed: intensities in 0..1 on the working grid, (z, y, x), z the patient's S axis.
        moving: the same for the moving volume.
        fixed_foreground: 1 where the patient is, on the same grid; PCA is fitted to tokens of the foreground.
        moving_foreground: the same for the moving volume.
        settings: slice gap, components, grid spacing.
        progress: told of each batch.

    Returns:
        Features of both volumes on the grid pooled by `settings.adam_grid_spacing`.
    """
    factor = settings.adam_grid_spacing
    if info.kind == "volume":
        pair = []
        for index, volume in enumerate((fixed, moving)):
            progress.advance(index / 2)
            pair.append(_pooled_descriptor(encoder, volume, factor, progress))
        return FeaturePair(pair[0], pair[1], (), 0)

    slices = encoded_slice_indices(fixed.shape[0], settings.slice_gap)
    tokens = []
    for index, volume in enumerate((fixed, moving)):
        tokens.append(_encode_slices(encoder, volume, slices, progress, index / 2))
    components = settings.components or info.components
    inside = [
        _token_foreground(mask, slices, (t.shape[2], t.shape[3]))
        for mask, t in zip((fixed_foreground, moving_foreground), tokens, strict=True)
    ]
    shape = (fixed.shape[0], fixed.shape[1], fixed.shape[2])
    reduced, explained = reduce_jointly(tokens, inside, components)
    fixed_features, moving_features = (
        tokens_to_grid(part, slices, shape, factor).to(fixed.device) for part in reduced
    )
    return FeaturePair(fixed_features, moving_features, explained, len(slices))


def encoded_slice_indices(depth: int, gap: int) -> list[int]:
    """Return the slices to encode: every `gap`-th from the first, and always the last."""
    return sorted({*range(0, depth, gap), depth - 1})


def _encode_slices(
    encoder: Encoder, volume: torch.Tensor, slices: list[int], progress: Progress, done: float
) -> torch.Tensor:
    """Return the tokens of the given axial slices, (N, D, h, w) on the host, slices padded to a square."""
    height, width = volume.shape[1:]
    side = max(height, width)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(slices), _SLICES_PER_BATCH):
            progress.advance(done + 0.5 * start / len(slices))
            batch = volume[slices[start : start + _SLICES_PER_BATCH]]
            padded = F.pad(batch, (0, side - width, 0, side - height))
            parts.append(encoder.encode(padded).float().cpu())
    return torch.cat(parts)


def _token_foreground(mask: torch.Tensor, slices: list[int], tokens: tuple[int, int]) -> torch.Tensor:
    """Return which tokens see mostly foreground, (N, h, w) bool on the host."""
    side = max(mask.shape[1:])
    padded = F.pad(mask[slices].float(), (0, side - mask.shape[2], 0, side - mask.shape[1]))
    share = F.interpolate(padded[:, None], size=tokens, mode="area")[:, 0]
    return (share > 0.5).cpu()


def reduce_jointly(
    tokens: list[torch.Tensor], inside: list[torch.Tensor], components: int
) -> tuple[list[torch.Tensor], tuple[float, ...]]:
    """Project the tokens of all volumes onto their common principal components (paper equation 2).

    The mean and the components are fitted to foreground tokens of all volumes together; the same projection
    is applied to each. One common scale brings the foreground's total variance to `FEATURE_VARIANCE`.
    Deterministic.

    Args:
        tokens: (N, D, h, w) of each volume.
        inside: (N, h, w) bool of each volume, the tokens to fit to.
        components: how many to keep, d; fewer where the tokens have fewer.

    Returns:
        The reduced tokens (N, d, h, w) of each volume, and the share of variance of each component.
    """
    rows = [t.permute(0, 2, 3, 1)[mask] for t, mask in zip(tokens, inside, strict=True)]
    samples = torch.cat(rows)
    if len(samples) <= components:
        samples = torch.cat([t.permute(0, 2, 3, 1).reshape(-1, t.shape[1]) for t in tokens])
    samples = samples[:: max(1, len(samples) // _PCA_SAMPLES)]
    pca = PCA(n_components=min(components, *samples.shape), svd_solver="covariance_eigh").fit(samples.numpy())
    variance = float(pca.explained_variance_.sum())
    scale = (FEATURE_VARIANCE / variance) ** 0.5 if variance > 0 else 1.0
    projection = torch.from_numpy(np.ascontiguousarray(pca.components_ * scale, dtype=np.float32))
    shift = projection @ torch.from_numpy(pca.mean_.astype(np.float32))
    reduced = [torch.einsum("kd,ndhw->nkhw", projection, t) - shift[:, None, None] for t in tokens]
    return reduced, tuple(float(share) for share in np.nan_to_num(pca.explained_variance_ratio_))


def tokens_to_grid(tokens: torch.Tensor, slices: list[int], shape: tuple[int, int, int], factor: int) -> torch.Tensor:
    """Interpolate tokens linearly to the voxels of a volume and average them over cells.

    Args:
        tokens: (N, d, h, w); the h x w tokens tile a square of max(H, W) voxels.
        slices: the N slices they belong to; slices between are interpolated, the encoded ones stay exact.
        shape: working grid (Z, H, W).
        factor: voxels along one side of a cell.

    Returns:
        (d, ceil(Z / factor), ceil(H / factor), ceil(W / factor)).
    """
    side = max(shape[1:])
    rows, columns = tokens.shape[-2:]
    along_z = _pooling_matrix(np.arange(shape[0]), np.asarray(slices, dtype=float), factor)
    along_y = _pooling_matrix(np.arange(shape[1]), (np.arange(rows) + 0.5) * side / rows - 0.5, factor)
    along_x = _pooling_matrix(np.arange(shape[2]), (np.arange(columns) + 0.5) * side / columns - 0.5, factor)
    in_plane = torch.einsum("yh,ndhw,xw->ndyx", along_y, tokens, along_x)
    return torch.einsum("zn,ndyx->dzyx", along_z, in_plane).contiguous()


def _pooling_matrix(voxels: np.ndarray, nodes: np.ndarray, factor: int) -> torch.Tensor:
    """Return the matrix (cells, nodes) of linear interpolation from nodes to voxels, then averaging over cells.

    Voxels beyond the first or last node take its value; the last cell averages the voxels it has.
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


def _pooled_descriptor(encoder: Encoder, volume: torch.Tensor, factor: int, progress: Progress) -> torch.Tensor:
    """Return a volume descriptor averaged over cells, computed slab by slab in bounded memory."""
    depth = volume.shape[0]
    per_slab = max(1, _SLAB_VOXELS // (volume.shape[1] * volume.shape[2] * factor)) * factor
    parts = []
    with torch.inference_mode():
        for start in range(0, depth, per_slab):
            progress.check_cancelled()
            stop = min(start + per_slab, depth)
            low, high = max(0, start - encoder.reach), min(depth, stop + encoder.reach)
            features = encoder.encode(volume[None, low:high])[0, :, start - low : stop - low]
            parts.append(pool(features, factor))
    return torch.cat(parts, dim=1)


def pool(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Average (C, z, y, x) over cells of `factor` voxels; incomplete cells at the end average what they have."""
    if factor == 1:
        return volume
    cell = [min(factor, size) for size in volume.shape[1:]]  # torch wants no window larger than the volume
    return F.avg_pool3d(volume[None], cell, stride=factor, ceil_mode=True, count_include_pad=False)[0]
