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
        published = {key.removeprefix("model."): value for key, value in checkpoint.state.items()}
        state = _timm_names(published, network)
        periods = published.get("rope_embed.periods")
        if periods is not None:  # published in bfloat16; timm computes them exactly
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


def _timm_names(state: Mapping[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint (Meta's, Hugging Face's or timm's) in timm's format."""
    import torch

    from .networks.vit import as_timm_has_them, published_names

    meta = {key.replace("register_tokens", "storage_tokens"): value for key, value in published_names(state).items()}
    result = as_timm_has_them(meta, network)
    for key in [key for key in result if key.endswith("attn.qkv.weight")]:
        for part in ("q_bias", "v_bias"):  # timm omits them if they are zero
            result.setdefault(key.replace("qkv.weight", part), torch.zeros(len(result[key]) // 3))
    return result


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
