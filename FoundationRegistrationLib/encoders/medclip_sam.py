"""MedCLIP-SAMv2's image encoder: BiomedCLIP's ViT-B/16, fine-tuned on medical images and their captions.

Sources: Koleilat et al., "MedCLIP-SAMv2: towards universal text-driven medical image segmentation",
arXiv:2409.19483; Zhang et al., "BiomedCLIP", arXiv:2303.00915. As in the registration paper's code, the tokens are
those of the last block, before the final normalisation, which belongs to the class token.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .base import CLIP, EncoderInfo, input_pixels

if TYPE_CHECKING:
    import torch

    from ..settings import Settings
    from .networks.vit import TokenEncoder

_WEIGHTS = "medclip-sam"
_INPUT_SIZE = 224
_PATCH = 16


def _build(settings: Settings, device: torch.device) -> TokenEncoder:
    from ..weights import load_exactly, read_checkpoint, renaming
    from .networks.vit import as_timm_has_them

    size = input_pixels(settings, _INPUT_SIZE, _PATCH)
    network = _network(size)
    checkpoint = read_checkpoint(_WEIGHTS, settings)
    with renaming(checkpoint.state, _WEIGHTS):
        state = as_timm_has_them(_timm_names(checkpoint.state), network)
    load_exactly(network, state, _WEIGHTS)
    return _encoder(network, size, device, checkpoint.sha256)


def _build_untrained(settings: Settings, device: torch.device) -> TokenEncoder:
    from .networks.values import randomise

    size = input_pixels(settings, _INPUT_SIZE, _PATCH)
    return _encoder(randomise(_network(size)), size, device, None)


def _network(size: int) -> Any:
    import timm

    from .networks.values import without_values

    make = partial(timm.create_model, "vit_base_patch16_224", pretrained=False, img_size=size, num_classes=0)
    return without_values(make)


def _encoder(network: Any, size: int, device: torch.device, sha256: str | None) -> TokenEncoder:
    from .networks.vit import TokenEncoder

    return TokenEncoder(network, size, CLIP, False, device, sha256)


def _timm_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of the image tower under timm's names.

    There are two published formats: open_clip's ("visual.trunk.", followed by timm's names) and Hugging Face's
    ("vision_model.").
    """
    from .networks.vit import published_names

    plain = {key.removeprefix("module.").removeprefix("model."): value for key, value in state.items()}
    trunk = {key.removeprefix("visual.trunk."): v for key, v in plain.items() if key.startswith("visual.trunk.")}
    tower = trunk or published_names(plain)
    if {"cls_token", "pos_embed"} <= tower.keys() and tower["cls_token"].ndim == 1:
        tower |= {"cls_token": tower["cls_token"][None, None], "pos_embed": tower["pos_embed"][None]}
    return tower


ENCODERS = (
    EncoderInfo(
        name="medclip-sam",
        title="MedCLIP-SAMv2 (BiomedCLIP ViT-B/16)",
        kind="slice",
        channels=768,
        components=12,
        tokens=_INPUT_SIZE // _PATCH,
        domain="medical images with captions (PMC-15M, MedPix)",
        strategy="image-text contrastive learning",
        finding="fails in every task (breast Dice 69.7, 59.8, 69.6 %), perhaps because its tokens are coarse",
        license="MIT",
        citation="Koleilat et al., arXiv:2409.19483, 2025",
        weights=(_WEIGHTS,),
        build=_build,
        build_untrained=_build_untrained,
    ),
)
