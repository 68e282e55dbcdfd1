"""DINOv3: vision transformers with rotary positions, trained on natural images by self-distillation.

Source: Siméoni et al., "DINOv3", arXiv:2508.10104.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .base import IMAGENET, EncoderInfo, input_pixels

if TYPE_CHECKING:
    import torch

    from ..settings import Settings
    from .networks.vit import TokenEncoder

_PATCH = 16
_INPUT_SIZE = 1536


def _build(settings: Settings, device: torch.device, weights: str, timm_name: str) -> TokenEncoder:
    from ..weights import load_exactly, read_checkpoint, renaming

    size = input_pixels(settings, _INPUT_SIZE, _PATCH)
    network = _network(timm_name, size)
    checkpoint = read_checkpoint(weights, settings)
    with renaming(checkpoint.state, weights):
        state = _timm_names(checkpoint.state)
        periods = checkpoint.state.get("rope_embed.periods")
        if periods is not None:  # published rounded to bfloat16; timm computes them exactly
            network.rope.periods.copy_(periods)
    load_exactly(network, state, weights)
    return _encoder(network, size, device, checkpoint.sha256)


def _build_untrained(settings: Settings, device: torch.device, weights: str, timm_name: str) -> TokenEncoder:
    from .networks.values import randomise

    size = input_pixels(settings, _INPUT_SIZE, _PATCH)
    return _encoder(randomise(_network(timm_name, size)), size, device, None)


def _network(timm_name: str, size: int) -> Any:
    import timm

    return timm.create_model(timm_name, pretrained=False, img_size=size)


def _encoder(network: Any, size: int, device: torch.device, sha256: str | None) -> TokenEncoder:
    from .networks.vit import TokenEncoder

    return TokenEncoder(network, size, IMAGENET, True, device, sha256)


def _timm_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint (Meta's, Hugging Face's or timm's) as timm names and keeps them."""
    import torch

    published = _published_names({key.removeprefix("model."): value for key, value in state.items()})
    result = {}
    for key, value in published.items():
        if key.endswith(("mask_token", ".bias_mask", ".periods")):
            continue
        name = (
            key.replace("storage_tokens", "reg_token").replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
        )
        if name.endswith("attn.qkv.bias"):  # keys have none
            queries, _, values = value.chunk(3)
            result[name.replace("qkv.bias", "q_bias")] = queries
            result[name.replace("qkv.bias", "v_bias")] = values
            continue
        result[name] = value
        if name.endswith("attn.qkv.weight") and name.replace("weight", "bias") not in published:
            none = torch.zeros(len(value) // 3)
            for part in ("q_bias", "v_bias"):
                result.setdefault(name.replace("qkv.weight", part), none)
    return result


def _published_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the names of DINOv3's own code; Hugging Face has others for the same network."""
    if "embeddings.cls_token" not in state:
        return dict(state)
    from .networks.vit import renamed

    block = r"layer\.(\d+)\."
    rules = (
        (r"embeddings\.(cls_token|mask_token)", r"\1"),
        (r"embeddings\.register_tokens", "storage_tokens"),
        (r"embeddings\.patch_embeddings\.(\w+)", r"patch_embed.proj.\1"),
        (block + r"attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
        (block + r"attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
        (block + r"layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
        (block + r"mlp\.up_proj\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
        (block + r"mlp\.down_proj\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
        (block + r"(norm\d)\.(\w+)", r"blocks.\1.\2.\3"),
        (r"norm\.(\w+)", r"norm.\1"),
    )
    return renamed(state, rules)


def _info(name: str, size: str, width: int, finding: str) -> EncoderInfo:
    weights = f"dinov3-vit{size.lower()}16"
    timm_name = f"vit_{'small' if size == 'S' else 'base'}_patch16_dinov3_qkvb"
    return EncoderInfo(
        name=name,
        title=f"DINOv3 ViT-{size}/16",
        kind="slice",
        channels=width,
        components=8,
        tokens=_INPUT_SIZE // _PATCH,
        domain="natural images (LVD-1689M)",
        strategy="self-distillation without labels",
        finding=finding,
        license="DINOv3 License",
        citation="Siméoni et al., arXiv:2508.10104, 2025",
        weights=(weights,),
        build=partial(_build, weights=weights, timm_name=timm_name),
        build_untrained=partial(_build_untrained, weights=weights, timm_name=timm_name),
    )


ENCODERS = (
    _info("dinov3", "S", 384, "not in the paper"),
    _info("dinov3-vitb16", "B", 768, "not in the paper; added later to the authors' code"),
)
