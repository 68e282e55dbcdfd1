"""SAM's image encoder, evaluated faster than `segment_anything` does, with the same result.

Source: Kirillov et al., "Segment anything", ICCV 2023; Li et al., "Exploring plain vision transformer backbones for
object detection", ECCV 2022, for windows and decomposed relative positions.

The network is that of `segment_anything`; only the order of the arithmetic differs. Attention is fused; its relative
positions are a bias computed in pieces that fit the processor's cache. The padding of incomplete windows has unused
queries and constant keys and values, so it is left out of the projections before and after attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Attention, Block, ImageEncoderViT

# Attention bias computed at once, bytes: on the CPU what fits the caches, elsewhere what fills the device.
_BIAS_BYTES_CPU = 4_000_000
_BIAS_BYTES_DEVICE = 1_000_000_000


def image_features(
    network: ImageEncoderViT, images: torch.Tensor, neck: bool = True, pad_before_norm: bool = False
) -> torch.Tensor:
    """Return the features of standardised images (B, 3, S, S) as (B, D, S/16, S/16).

    Args:
        network: the encoder, made for images of S pixels.
        images: its input.
        neck: return the output of the neck (D = 256), else its input tokens (D of the transformer).
        pad_before_norm: windows are padded before the normalisation, not after it (as in MRI-CORE's code).
    """
    tokens = network.patch_embed(images)
    if network.pos_embed is not None:
        tokens = tokens + network.pos_embed
    for block in network.blocks:
        tokens = tokens + _attention(block, tokens, pad_before_norm)
        tokens = tokens + block.mlp(block.norm2(tokens))
    features = tokens.permute(0, 3, 1, 2)
    return network.neck(features) if neck else features


def _attention(block: Block, tokens: torch.Tensor, pad_before_norm: bool) -> torch.Tensor:
    """Return what the attention of a block adds to its tokens (B, H, W, D)."""
    attention, side = block.attn, block.window_size
    qkv = attention.qkv(block.norm1(tokens))
    if not side:
        return attention.proj(_attend(attention, qkv))
    # A zero token leaves the normalisation as its bias, and the projection as that of the bias.
    padding = attention.qkv(block.norm1.bias) if pad_before_norm else attention.qkv.bias
    mixed = _attend(attention, _windows(qkv, side, padding))
    return attention.proj(_joined(mixed, tokens.shape[0], tokens.shape[1], tokens.shape[2]))


def _windows(tokens: torch.Tensor, side: int, padding: torch.Tensor) -> torch.Tensor:
    """Cut (B, H, W, C) into windows (B * windows, side, side, C); incomplete ones are filled with `padding` (C,)."""
    batch, height, width, channels = tokens.shape
    rows, columns = -(-height // side), -(-width // side)
    if (rows * side, columns * side) != (height, width):
        padded = padding.to(tokens.dtype).expand(batch, rows * side, columns * side, channels).clone()
        padded[:, :height, :width] = tokens
        tokens = padded
    cut = tokens.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return cut.reshape(batch * rows * columns, side, side, channels)


def _joined(windows: torch.Tensor, batch: int, height: int, width: int) -> torch.Tensor:
    """Merge windows (B * windows, side, side, C) into (B, H, W, C), without their padding."""
    side, channels = windows.shape[1], windows.shape[3]
    rows, columns = -(-height // side), -(-width // side)
    cut = windows.view(batch, rows, columns, side, side, channels).transpose(2, 3)
    return cut.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]


def _attend(attention: Attention, qkv: torch.Tensor) -> torch.Tensor:
    """Return the attention within each of N images or windows: (N, H, W, 3 D) to (N, H, W, D)."""
    count, height, width, channels = qkv.shape
    heads, length = attention.num_heads, height * width
    q, k, v = qkv.reshape(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    result = qkv.new_empty(count, length, heads, q.shape[-1]).transpose(1, 2)
    if not attention.use_rel_pos:
        result.copy_(F.scaled_dot_product_attention(q, k, v))
    else:
        _attend_with_positions(attention, q, k, v, result, (height, width))
    return result.transpose(1, 2).reshape(count, height, width, channels // 3)


def _attend_with_positions(
    attention: Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    result: torch.Tensor,
    shape: tuple[int, int],
) -> None:
    """Write attention with decomposed relative positions into `result`; all (N, heads, H * W, channels of a head).

    The bias of query (y, x) for key (j, i) is q . rows[y - j] + q . columns[x - i].
    """
    height, width = shape
    count, heads, length, _ = q.shape
    grid = q.reshape(count, heads, height, width, -1)
    by_row = torch.einsum("nhyxc,yjc->nhyxj", grid, _relative(attention.rel_pos_h, height))
    by_column = torch.einsum("nhyxc,xic->nhyxi", grid, _relative(attention.rel_pos_w, width))
    budget = _BIAS_BYTES_CPU if q.device.type == "cpu" else _BIAS_BYTES_DEVICE
    of_head = length * length * by_row.element_size()
    some = max(1, budget // (heads * of_head))
    some_heads = min(heads, max(1, budget // of_head))
    some_rows = min(height, max(1, budget // (of_head // height)))
    for n in range(0, count, some):
        for h in range(0, heads, some_heads):
            part = slice(n, n + some), slice(h, h + some_heads)
            for y in range(0, height, some_rows):
                rows, columns = (bias[part][:, :, y : y + some_rows] for bias in (by_row, by_column))
                bias = (rows[..., :, None] + columns[..., None, :]).flatten(4).flatten(2, 3)
                queries = slice(y * width, (y + some_rows) * width)
                result[part][:, :, queries] = F.scaled_dot_product_attention(
                    q[part][:, :, queries], k[part], v[part], attn_mask=bias
                )


def _relative(table: torch.Tensor, size: int) -> torch.Tensor:
    """Return the embedding of the offset between each pair of positions of an axis, (size, size, channels)."""
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position[None, :] + size - 1]
