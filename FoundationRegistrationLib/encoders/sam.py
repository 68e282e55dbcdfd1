"""SAM and networks trained further from it: MedSAM, SSLSAM and MRI-CORE, all with SAM's image encoder.

Sources: Kirillov et al., "Segment anything", ICCV 2023; Ma et al., "Segment anything in medical images", Nature
Communications 2024; Gu et al., "How to build the best medical image segmentation algorithm using foundation models",
arXiv:2404.09957 (SSLSAM); Dong et al., "MRI-CORE: a foundation model for magnetic resonance imaging",
arXiv:2506.12186.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .base import IMAGENET, EncoderInfo, Statistics, input_pixels, network_input, side_of, standardised

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling.image_encoder import ImageEncoderViT

    from ..settings import Settings

_PATCH = 16
_INPUT_SIZE = 1024
_WINDOW = 14
_NECK_CHANNELS = 256


@dataclass(frozen=True)
class _Variant:
    """One network of the family.

    Attributes:
        weights: catalogue entries; each is loaded on top of the previous ones.
        width: channels of a token within the transformer.
        depth: number of blocks.
        heads: heads of the attention.
        global_blocks: blocks with global attention; the others have windowed attention.
        statistics: standardisation of intensities in 0..1; None for none.
        as_mri_core: MRI-CORE's differences from SAM: no relative positions, windows padded before the normalisation,
            and tokens from before the neck, which was not trained with the rest.
    """

    weights: tuple[str, ...]
    width: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    statistics: Statistics | None = IMAGENET
    as_mri_core: bool = False


class SamEncoder:
    """Features on 64 x 64 tokens of a slice resized to 1024 x 1024 (or of another size, in proportion)."""

    reach = 0

    def __init__(
        self, network: ImageEncoderViT, variant: _Variant, device: torch.device, sha256: str | None = None
    ) -> None:
        self.weights_sha256 = sha256
        self.input_size: int = network.img_size
        self._network = network.eval().requires_grad_(False).to(device)
        self._variant = variant

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, D, h, h)."""
        from .networks.sam import image_features

        pixels = network_input(images, self.input_size)
        if self._variant.statistics is not None:
            pixels = standardised(pixels, self._variant.statistics)
        special = self._variant.as_mri_core
        return image_features(self._network, pixels, neck=not special, pad_before_norm=special)


def _build(settings: Settings, device: torch.device, variant: _Variant) -> SamEncoder:
    from ..weights import load_exactly, read_checkpoint, renaming

    network = _network(settings, variant)
    files = [read_checkpoint(name, settings, beside=name != variant.weights[-1]) for name in variant.weights]
    with renaming(files[0].state, variant.weights[0]):
        state = _official_names(files[0].state, variant)
    for name, file in zip(variant.weights[1:], files[1:], strict=True):
        with renaming(file.state, name):
            over = _official_names(file.state, variant)
        if not {key for key in state if key.startswith("blocks.") and ".rel_pos_" not in key} <= set(over):
            load_exactly(network, over, name)  # it is another network; this identifies it
        state |= {key: value for key, value in over.items() if key in state}
    with renaming(state, variant.weights[-1]):
        fitted = _resampled(state, network)
    load_exactly(network, fitted, variant.weights[-1])
    return SamEncoder(network, variant, device, "+".join(file.sha256 for file in files))


def _build_untrained(settings: Settings, device: torch.device, variant: _Variant) -> SamEncoder:
    from .networks.values import randomise

    return SamEncoder(randomise(_network(settings, variant)), variant, device)


def _network(settings: Settings, variant: _Variant) -> ImageEncoderViT:
    """Return the network for the input size of the settings, with uninitialised parameters."""
    from .networks.values import without_values

    size = input_pixels(settings, _INPUT_SIZE, _PATCH)
    return without_values(partial(_random_network, size, variant))


def _random_network(size: int, variant: _Variant) -> ImageEncoderViT:
    import torch
    from segment_anything.modeling.image_encoder import ImageEncoderViT

    network = ImageEncoderViT(
        img_size=size,
        patch_size=_PATCH,
        embed_dim=variant.width,
        depth=variant.depth,
        num_heads=variant.heads,
        out_chans=_NECK_CHANNELS,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=not variant.as_mri_core,
        window_size=_WINDOW,
        global_attn_indexes=variant.global_blocks,
    )
    if variant.as_mri_core:
        network.neck = torch.nn.Identity()
    return network


def _official_names(state: Mapping[str, torch.Tensor], variant: _Variant) -> dict[str, torch.Tensor]:
    """Return the tensors of the image encoder under the names of `segment_anything`.

    Checkpoints contain all of SAM ("image_encoder.", decoder and prompts) or only the encoder, and may have the
    prefix "module." from multi-GPU training.
    """
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    part = {key.removeprefix("image_encoder."): v for key, v in plain.items() if key.startswith("image_encoder.")}
    return _mri_core_names(part or plain) if variant.as_mri_core else part or plain


def _mri_core_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return MRI-CORE's tensors under SAM's names.

    It was trained with DINOv2's code, which adds "backbone.", numbers blocks by chunk ("blocks.0.3."), names the MLP
    layers "fc1" and "fc2", and stores positions as a list that begins with that of the class token.
    """
    result = {}
    for key, value in state.items():
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key.removeprefix("backbone.")).replace(".fc", ".lin")
        if name == "pos_embed" and value.ndim == 3:
            side = side_of(value.shape[1] - 1)
            value = value[:, 1:].reshape(1, side, side, -1)
        if re.match(r"(patch_embed|pos_embed|blocks)\b", name) and ".rel_pos_" not in name:
            result[name] = value
    return result


def _resampled(state: Mapping[str, torch.Tensor], network: ImageEncoderViT) -> dict[str, torch.Tensor]:
    """Return the tensors with positions interpolated to the size of the network."""
    import torch.nn.functional as F

    wanted = {key: value.shape for key, value in network.state_dict().items()}
    result = dict(state)
    for key, value in state.items():
        shape = wanted.get(key)
        if shape is None or shape == value.shape:
            continue
        if key == "pos_embed" and value.ndim == 4 and value.shape[-1] == shape[-1]:
            resized = F.interpolate(value.float().permute(0, 3, 1, 2), size=tuple(shape[1:3]), mode="bilinear")
            result[key] = resized.permute(0, 2, 3, 1)
        elif ".rel_pos_" in key and value.ndim == 2 and value.shape[1] == shape[1]:
            result[key] = F.interpolate(value.float().T[None], size=shape[0], mode="linear")[0].T
    return result


def _info(
    name: str, title: str, domain: str, strategy: str, finding: str, citation: str, variant: _Variant
) -> EncoderInfo:
    return EncoderInfo(
        name=name,
        title=title,
        kind="slice",
        channels=variant.width if variant.as_mri_core else _NECK_CHANNELS,
        components=12 if variant.as_mri_core else 3,
        tokens=_INPUT_SIZE // _PATCH,
        domain=domain,
        strategy=strategy,
        finding=finding,
        license="Apache-2.0",
        citation=citation,
        weights=variant.weights,
        build=partial(_build, variant=variant),
        build_untrained=partial(_build_untrained, variant=variant),
    )


_NATURAL = "natural images (SA-1B)"
_PROMPTS = "masked autoencoding, then promptable segmentation"
_SAM = "Kirillov et al., ICCV 2023"

ENCODERS = (
    _info(
        "sam",
        "SAM ViT-B/16",
        _NATURAL,
        _PROMPTS,
        "best breast Dice of all methods (83.8, 80.8, 83.3 %); fibroglandular tissue (48.4, 43.2, 39.8 %) worse than "
        "NiftyReg; aligns CT with MR",
        _SAM,
        _Variant(("sam-vit-b",)),
    ),
    _info(
        "sam-vit-l",
        "SAM ViT-L/16",
        _NATURAL,
        _PROMPTS,
        "not in the paper, which used ViT-B",
        _SAM,
        _Variant(("sam-vit-l",), width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    ),
    _info(
        "sam-vit-h",
        "SAM ViT-H/16",
        _NATURAL,
        _PROMPTS,
        "not in the paper, which used ViT-B",
        _SAM,
        _Variant(("sam-vit-h",), width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    ),
    _info(
        "medsam",
        "MedSAM ViT-B/16",
        "medical images of many modalities, no breast MR",
        "SAM, fine-tuned for promptable segmentation",
        "worse than SAM in every task (breast Dice 75.5, 68.3, 73.0 %); lesion volumes change by 120 %",
        "Ma et al., Nature Communications 2024",
        _Variant(("medsam",), statistics=None),
    ),
    _info(
        "sslsam",
        "SSLSAM ViT-B/16",
        "MR, including one breast collection (dynamic, pre-contrast)",
        "SAM, pretrained further by masked autoencoding without labels",
        "no better than SAM within a sequence (breast Dice 82.1, 79.0 %), much worse across sequences (70.8 %)",
        "Gu et al., arXiv:2404.09957, 2024",
        _Variant(("sam-vit-b", "sslsam")),
    ),
    _info(
        "mri-core",
        "MRI-CORE ViT-B/16",
        "MR of many regions",
        "SAM, pretrained further by self-distillation (DINOv2) without labels",
        "named in the paper as future work, not measured there",
        "Dong et al., arXiv:2506.12186, 2025",
        _Variant(("mri-core",), statistics=None, as_mri_core=True),
    ),
)
