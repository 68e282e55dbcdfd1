"""DINOv2: vision transformers trained on natural images by self-distillation, with and without register tokens.

Sources: Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR 2024; Darcet et al.,
"Vision transformers need registers", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .base import IMAGENET, EncoderInfo, input_pixels, side_of

if TYPE_CHECKING:
    import torch

    from ..settings import Settings
    from .networks.vit import TokenEncoder

_PATCH = 14
# Tokens along one side, tried from the largest (the paper's) until a slice fits into a share of the device's total
# memory: not of the free memory, so that the same machine always gives the same features.
_SIDES = (128, 112, 96, 80, 64, 48, 37)
_MEMORY_SHARE = 0.25
# Float32 values per token, in units of the channels: residual stream, queries, keys, values, the fourfold MLP layer
# before and after its nonlinearity, and library overhead.
_VALUES_OF_TOKEN = 16


@dataclass(frozen=True)
class _Variant:
    """A network: its catalogue entry, timm name, channels, heads, and whether it has registers."""

    weights: str
    timm_name: str
    width: int
    heads: int
    registers: bool


def _build(settings: Settings, device: torch.device, variant: _Variant) -> TokenEncoder:
    from ..weights import load_exactly, read_checkpoint, renaming

    size = _input_size(settings, device, variant)
    network = _network(variant, size)
    checkpoint = read_checkpoint(variant.weights, settings)
    with renaming(checkpoint.state, variant.weights):
        state = _timm_names(checkpoint.state, network, variant.registers)
    load_exactly(network, state, variant.weights)
    return _encoder(network, size, device, checkpoint.sha256)


def _build_untrained(settings: Settings, device: torch.device, variant: _Variant) -> TokenEncoder:
    from .networks.values import randomise

    size = _input_size(settings, device, variant)
    return _encoder(randomise(_network(variant, size)), size, device, None)


def _encoder(network: Any, size: int, device: torch.device, sha256: str | None) -> TokenEncoder:
    from .networks.vit import TokenEncoder

    return TokenEncoder(network, size, IMAGENET, True, device, sha256)


def _network(variant: _Variant, size: int) -> Any:
    import timm

    from .networks.values import without_values

    return without_values(partial(timm.create_model, variant.timm_name, pretrained=False, img_size=size))


def _input_size(settings: Settings, device: torch.device, variant: _Variant) -> int:
    """Return the input size of the settings, else the largest that the device's memory allows."""
    if settings.input_size:
        return input_pixels(settings, settings.input_size, _PATCH)
    budget = _MEMORY_SHARE * _memory_bytes(device)
    for side in _SIDES:
        values = side**2 * variant.width * _VALUES_OF_TOKEN
        if device.type == "mps":  # no fused attention
            values += variant.heads * side**4
        if 4 * values <= budget:
            return side * _PATCH
    return _SIDES[-1] * _PATCH


def _memory_bytes(device: torch.device) -> int:
    """Return the total memory of a device."""
    import torch

    from ..runtime.memory import total_memory_bytes

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return total_memory_bytes()


def _timm_names(state: Mapping[str, torch.Tensor], network: Any, registers: bool) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint (Meta's, Hugging Face's or timm's) in timm's format."""
    from .networks.vit import as_timm_has_them, published_names

    published = published_names(state)
    published.pop("mask_token", None)
    if registers and {"register_tokens", "reg_token"} & published.keys():
        # timm recognises DINOv2 by its mask token, and drops it.
        return as_timm_has_them({**published, "mask_token": published["cls_token"]}, network)
    if not registers and "pos_embed" in published:
        published["pos_embed"] = _interpolated(published["pos_embed"], network.patch_embed.grid_size[0])
    return published


def _interpolated(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Interpolate positions (1, 1 + n^2, D) to side x side tokens, like DINOv2's code for networks without registers.

    That is with the scale (side + 0.1) / n, without antialiasing; with registers timm's way is right.
    """
    import torch
    import torch.nn.functional as F

    own = side_of(positions.shape[1] - 1)
    if own == side:
        return positions
    grid = positions[:, 1:].float().reshape(1, own, own, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / own
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def _info(name: str, size: str, width: int, heads: int, registers: bool, finding: str) -> EncoderInfo:
    suffix, infix = ("-reg", "_reg4") if registers else ("", "")
    architecture = {"S": "small", "B": "base", "L": "large"}[size]
    weights = f"dinov2-vit{size.lower()}14{suffix}"
    variant = _Variant(weights, f"vit_{architecture}_patch14{infix}_dinov2", width, heads, registers)
    return EncoderInfo(
        name=name,
        title=f"DINOv2 ViT-{size}/14{' with registers' if registers else ''}",
        kind="slice",
        channels=width,
        components=8,
        tokens=_SIDES[0],
        domain="natural images (LVD-142M)",
        strategy="self-distillation without labels",
        finding=finding,
        license="Apache-2.0",
        citation="Oquab et al., TMLR 2024" + ("; Darcet et al., ICLR 2024" if registers else ""),
        weights=(weights,),
        build=partial(_build, variant=variant),
        build_untrained=partial(_build_untrained, variant=variant),
    )


_MEASURED = (
    "breast Dice 81.3, 80.4, 80.5 %, close to SAM; keeps lesion volumes best (31 % change); the paper's text names "
    "ViT-S/14, its code loads ViT-L/14 with registers"
)
_NOT_MEASURED = "not in the paper"

ENCODERS = (
    _info("dinov2", "S", 384, 6, False, _MEASURED),
    _info("dinov2-vits14-reg", "S", 384, 6, True, _NOT_MEASURED),
    _info("dinov2-vitb14", "B", 768, 12, False, _NOT_MEASURED),
    _info("dinov2-vitb14-reg", "B", 768, 12, True, _NOT_MEASURED),
    _info("dinov2-vitl14", "L", 1024, 16, False, _NOT_MEASURED),
    _info("dinov2-vitl14-reg", "L", 1024, 16, True, "see dinov2"),
)
