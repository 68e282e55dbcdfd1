"""Interpolation of volumes at displaced positions, in voxels; only this module converts them for `grid_sample`.

A grid of N voxels spans -1/2 .. N - 1/2; `grid_sample` with `align_corners=False` maps that to -1 .. 1, so a
displacement of one voxel is 2/N there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .lookup import looked_up, looked_up_gradient

# Weights of the fixed and the moving cells, (z, y, x) in 0..1; None for all 1.
Weights = tuple[torch.Tensor | None, torch.Tensor | None]


def identity_positions(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """Return the index of each voxel, (3, z, y, x) with components (z, y, x)."""
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample(volume: torch.Tensor, positions: torch.Tensor, padding: str = "border") -> torch.Tensor:
    """Return a volume at continuous voxel positions, trilinearly.

    The work is split into batches, since torch's CPU kernel uses one thread per batch.

    Args:
        volume: (C, Z, Y, X).
        positions: (3, ...) continuous indices with components (z, y, x).
        padding: "border" repeats the edge, "zeros" is zero beyond it.

    Returns:
        (C, ...), with the shape of the positions.
    """
    arrangement, count = positions.shape[1:], positions[0].numel()
    if volume.device.type == "mps":
        return looked_up(volume, positions.flatten(1), padding).reshape(volume.shape[0], *arrangement)
    places = _batches(volume, positions.flatten(1))
    sampled = F.grid_sample(
        volume[None].expand(len(places), -1, -1, -1, -1),
        places,
        mode="bilinear",
        padding_mode=padding,
        align_corners=False,
    )
    return sampled.transpose(0, 1).flatten(1)[:, :count].reshape(volume.shape[0], *arrangement)


def sample_gradient(volume: torch.Tensor, positions: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
    """Return the gradient of (pull * sample(volume, positions)).sum() with respect to the positions, (3, n).

    As automatic differentiation, but without a graph: the operator's backward is called directly.

    Args:
        volume: (C, Z, Y, X).
        positions: (3, n) continuous indices with components (z, y, x); beyond the edge the gradient is zero.
        pull: (C, n).
    """
    if volume.device.type == "mps":
        return looked_up_gradient(volume, positions, pull)
    places = _batches(volume, positions)
    missing = places[..., 0].numel() - pull.shape[1]
    if missing:
        pull = torch.cat([pull, pull.new_zeros(len(pull), missing)], dim=1)
    _, gradient = torch.ops.aten.grid_sampler_3d_backward(
        pull.reshape(len(pull), len(places), 1, 1, -1).transpose(0, 1),
        volume[None].expand(len(places), -1, -1, -1, -1),
        places,
        0,  # linear
        1,  # "border"
        False,  # align_corners
        [False, True],
    )
    found = gradient.reshape(-1, 3)[: positions.shape[1]].T.flip(0)
    return torch.stack([along / size * 2.0 for along, size in zip(found, volume.shape[1:], strict=True)])


def _batches(volume: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return positions (3, n) for `grid_sample`: (threads, 1, 1, n / threads, 3), the last one repeated."""
    # Sizes are passed as numbers: a tensor would synchronise the host with the GPU each time.
    along = [(2.0 * axis + 1.0) / size - 1.0 for axis, size in zip(positions, volume.shape[1:], strict=True)]
    normalised = torch.stack(along[::-1], dim=1)
    count = len(normalised)
    batches = max(1, min(torch.get_num_threads(), count)) if volume.device.type == "cpu" else 1
    per_batch = -(-count // batches)
    missing = per_batch * batches - count
    if missing:
        normalised = torch.cat([normalised, normalised[-1:].expand(missing, -1)])
    return normalised.reshape(batches, 1, 1, per_batch, 3)


def warp(volume: torch.Tensor, displacement: torch.Tensor, padding: str = "border") -> torch.Tensor:
    """Return volume(x + displacement(x)); the displacement is (3, z, y, x) in voxels of the volume's grid."""
    shape = (displacement.shape[1], displacement.shape[2], displacement.shape[3])
    return sample(volume, identity_positions(shape, displacement.device) + displacement, padding)


def compose_displacements(first: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """Return the displacement of x -> y + then(y) with y = x + first(x); both (3, z, y, x) in voxels."""
    return first + warp(then, first)


def upsample(displacement: torch.Tensor, factor: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Upsample a displacement in coarse cells to a grid `factor` times finer, in voxels of that grid.

    Args:
        displacement: (3, z, y, x) in cells.
        factor: fine voxels along one side of a cell.
        shape: of the fine grid; cells beyond it are cropped.
    """
    if factor > 1 and displacement.device.type == "mps":  # which has no trilinear interpolation
        in_plane = F.interpolate(displacement, scale_factor=factor, mode="bilinear", align_corners=False)
        columns = in_plane.flatten(2).transpose(1, 2)
        along_z = F.interpolate(columns, scale_factor=factor, mode="linear", align_corners=False).transpose(1, 2)
        displacement = factor * along_z.unflatten(2, in_plane.shape[2:]).contiguous()
    elif factor > 1:
        displacement = (
            factor * F.interpolate(displacement[None], scale_factor=factor, mode="trilinear", align_corners=False)[0]
        )
    return displacement[:, : shape[0], : shape[1], : shape[2]]


def weight_on_both_sides(
    weight: torch.Tensor | None, moving_weight: torch.Tensor | None, displacement: torch.Tensor | None
) -> torch.Tensor | None:
    """Return the weight (z, y, x) of each fixed cell, given the weights of the moving cells it is displaced to."""
    if moving_weight is None:
        return weight
    carried = moving_weight if displacement is None else warp(moving_weight[None], displacement, "zeros")[0]
    return carried if weight is None else weight * carried
