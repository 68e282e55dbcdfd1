"""LiteMedSAM's TinyViT for inference only: the same features as the published network in less time.

Source: Wu et al., "TinyViT: fast pretraining distillation for small vision transformers", ECCV 2022; the variant
of LiteMedSAM keeps full resolution in its first stage, which takes most of the memory and much of the time.

Optimisations, all exact up to rounding: batch normalisation is folded into the convolutions; images stay (row,
column, channel), so that every 1 x 1 convolution is one matrix product; blocks are computed from expansion to
residual in strips of rows that fit the processor's cache; attention is fused; and the padding of incomplete windows,
whose keys and values are constant, is neither normalised nor projected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

State = Mapping[str, torch.Tensor]

_HEAD_WIDTH = 32
# Widest activation of a strip on the CPU, in bytes: a few of them fit the cache.
_STRIP_BYTES = 4_000_000
# Window side and blocks of each transformer stage.
_STAGES = ((7, 2), (14, 6), (7, 2))


class TinyViT(nn.Module):
    """The image encoder of LiteMedSAM from its state dictionary: (B, 3, 256, 256) to (B, 256, 64, 64).

    Args:
        state: tensors by their published names, beginning with "patch_embed.", "layers." and "neck.".
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.stem = nn.ModuleList([_Pointwise.fused(state, f"patch_embed.seq.{i}") for i in (0, 2)])
        stages: list[nn.Module] = [_MobileBlock(state, f"layers.0.blocks.{i}") for i in range(2)]
        for index, (window, depth) in enumerate(_STAGES, start=1):
            stride = 1 if index == len(_STAGES) else 2
            stages.append(_MobileBlock(state, f"layers.{index - 1}.downsample", stride, residual=False))
            stages.extend(_Block(state, f"layers.{index}.blocks.{i}", window) for i in range(depth))
        self.stages = nn.Sequential(*stages)
        self.neck = _Neck(state)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the neck's output; images (B, 3, H, H) in 0..1."""
        x = self.stem[1](F.gelu(self.stem[0](images.permute(0, 2, 3, 1))))
        return self.neck(self.stages(x)).permute(0, 3, 1, 2)


class _Pointwise(nn.Module):
    """A linear map of the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.flatten(1).contiguous())
        self.register_buffer("bias", bias)

    @classmethod
    def fused(cls, state: State, name: str) -> _Pointwise:
        """Return a 1 x 1 convolution with its batch normalisation."""
        return cls(*_fused(state, name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


class _Depthwise(nn.Module):
    """A 3 x 3 depthwise convolution of (B, H, W, C) with its batch normalisation, zero padded."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, state: State, name: str, stride: int = 1) -> None:
        super().__init__()
        weight, bias = _fused(state, name)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, self.stride, padding=1, groups=len(self.weight))
        return y.permute(0, 2, 3, 1)


class _Norm(nn.Module):
    """Layer normalisation of the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, state: State, name: str, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("weight", state[f"{name}.weight"])
        self.register_buffer("bias", state[f"{name}.bias"])
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class _MobileBlock(nn.Module):
    """Expansion, depthwise convolution, projection; and a residual unless the resolution or the width changes."""

    def __init__(self, state: State, name: str, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.expand = _Pointwise.fused(state, f"{name}.conv1")
        self.depthwise = _Depthwise(state, f"{name}.conv2", stride)
        self.project = _Pointwise.fused(state, f"{name}.conv3")
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.depthwise.stride

        def strip(rows: torch.Tensor, inner: slice) -> torch.Tensor:
            hidden = F.gelu(self.depthwise(F.gelu(self.expand(rows)))[:, inner])
            y = self.project(hidden)
            return F.gelu(y.add_(rows[:, inner])) if self.residual else y

        # Output rows of stride 2 are centred on even rows, so neighbouring rows come in pairs.
        return _by_strips(x, _rows_in_cache(x, len(self.expand.weight), 2), strip, halo=stride, stride=stride)


class _Block(nn.Module):
    """Attention in windows, a depthwise convolution, and two layers, on (B, H, W, C)."""

    def __init__(self, state: State, name: str, window: int) -> None:
        super().__init__()
        self.attention = _WindowAttention(state, f"{name}.attn", window)
        self.local = _Depthwise(state, f"{name}.local_conv")
        self.norm = _Norm(state, f"{name}.mlp.norm", 1e-5)
        self.up, self.down = (
            _Pointwise(state[f"{name}.mlp.{part}.weight"], state[f"{name}.mlp.{part}.bias"])
            for part in ("fc1", "fc2")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def perceptron(rows: torch.Tensor, inner: slice) -> torch.Tensor:
            return self.down(F.gelu(self.up(self.norm(rows)))).add_(rows)

        x = self.local(self.attention(x))
        return _by_strips(x, _rows_in_cache(x, len(self.up.weight)), perceptron)


class _WindowAttention(nn.Module):
    """Self-attention in square windows with a bias for each distance, and a residual.

    Incomplete windows are padded with zeros before the normalisation, so the padding has constant keys and values,
    which are computed once.
    """

    bias: torch.Tensor
    empty: torch.Tensor

    def __init__(self, state: State, name: str, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm = _Norm(state, f"{name}.norm", 1e-5)
        self.qkv, self.project = (
            _Pointwise(state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]) for part in ("qkv", "proj")
        )
        index = torch.arange(window)
        apart = (index[:, None] - index[None]).abs()
        # One value per head for each offset (down, across) of two tokens, row by row.
        table = state[f"{name}.attention_biases"].view(-1, window, window)
        pairs = table[:, apart[:, None, :, None], apart[None, :, None, :]]
        self.register_buffer("bias", pairs.reshape(1, -1, window**2, window**2))
        self.register_buffer("empty", self.qkv(self.norm.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _by_strips(x, _rows_in_cache(x, len(self.qkv.weight), self.window), self._attend)

    def _attend(self, x: torch.Tensor, inner: slice) -> torch.Tensor:
        (batch, height, width, channels), side = x.shape, self.window
        down, across = -(-height // side), -(-width // side)
        projected = self.qkv(self.norm(x))
        padded = self.empty.to(projected.dtype).expand(batch, down * side, across * side, -1).contiguous()
        padded[:, :height, :width] = projected
        windows = padded.view(batch, down, side, across, side, -1, 3, _HEAD_WIDTH).permute(6, 0, 1, 3, 5, 2, 4, 7)
        query, key, value = windows.reshape(3, batch * down * across, -1, side * side, _HEAD_WIDTH)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias.to(query.dtype))
        y = y.view(batch, down, across, -1, side, side, _HEAD_WIDTH).permute(0, 1, 4, 2, 5, 3, 6)
        y = y.reshape(batch, down * side, across * side, channels)[:, :height, :width]
        return self.project(y.contiguous()).add_(x)


class _Neck(nn.Module):
    """Two convolutions to 256 channels, each with layer normalisation."""

    kernel: torch.Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        self.narrow = _Pointwise(state["neck.0.weight"], None)
        self.norm = _Norm(state, "neck.1", 1e-6)
        self.register_buffer("kernel", state["neck.2.weight"])
        self.norm_after = _Norm(state, "neck.3", 1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.narrow(x))
        y = F.conv2d(x.permute(0, 3, 1, 2), self.kernel, padding=1)
        return self.norm_after(y.permute(0, 2, 3, 1))


def _rows_in_cache(x: torch.Tensor, channels: int, multiple: int = 1) -> int:
    """Return how many rows of (B, H, W, C) to process at once, a multiple of `multiple`.

    Args:
        x: the whole.
        channels: of the widest activation computed from it.
        multiple: rows that belong together.
    """
    if x.device.type != "cpu":
        return x.shape[1]
    return max(1, _STRIP_BYTES // (4 * x.shape[2] * channels * multiple)) * multiple


def _by_strips(
    x: torch.Tensor, rows: int, strip: Callable[[torch.Tensor, slice], torch.Tensor], halo: int = 0, stride: int = 1
) -> torch.Tensor:
    """Return a function of (B, H, W, C) computed in strips of rows.

    Args:
        x: the whole.
        rows: input rows of a strip.
        strip: takes a strip with up to `halo` neighbouring rows on each side, and the rows of its result to return,
            which excludes those without neighbours.
        halo: neighbouring rows that the function needs.
        stride: input rows for each row of the result.
    """
    height = x.shape[1]
    if rows >= height:
        return strip(x, slice(None))
    images = []
    for image in x.split(1):
        parts = []
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            low, high = max(0, start - halo), min(height, stop + halo)
            parts.append(strip(image[:, low:high], slice((start - low) // stride, -(-(stop - low) // stride))))
        images.append(torch.cat(parts, dim=1))
    return torch.cat(images) if len(images) > 1 else images[0]


def _fused(state: State, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution "c" with its batch normalisation "bn" folded in."""
    norm = {key: state[f"{name}.bn.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
    weight = state[f"{name}.c.weight"] * scale[:, None, None, None]
    return weight, norm["bias"] - norm["running_mean"] * scale
