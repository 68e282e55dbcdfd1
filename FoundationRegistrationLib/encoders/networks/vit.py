"""timm vision transformers as slice encoders, and conversion of other checkpoints' tensor names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from ..base import Statistics, network_input, side_of, standardised

_BLOCK = r"(?:vision_model\.)?(?:encoder\.)?layers?\.(\d+)\."
# Hugging Face's names for DINOv2, DINOv3 and CLIP, and those of the publishers' code.
_HUGGING_FACE = (
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"vision_model\.embeddings\.class_embedding", "cls_token"),
    (r"(?:vision_model\.)?embeddings\.position_embedding(?:s|\.weight)", "pos_embed"),
    (r"(?:vision_model\.)?embeddings\.patch_embeddings?\.(?:projection\.)?(\w+)", r"patch_embed.proj.\1"),
    (
        _BLOCK + r"(?:self_attn|attention(?:\.attention)?)\.([qkv])(?:_proj|uery|ey|alue)\.(\w+)",
        r"blocks.\1.attn.\2.\3",
    ),
    (_BLOCK + r"(?:self_attn|attention)\.(?:out_proj|o_proj|output\.dense)\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (_BLOCK + r"layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (_BLOCK + r"(?:layer_)?norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (_BLOCK + r"mlp\.(?:fc1|up_proj)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (_BLOCK + r"mlp\.(?:fc2|down_proj)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"(?:vision_model\.post_layer|layer)?norm\.(\w+)", r"norm.\1"),
)


class TokenEncoder:
    """Tokens of a transformer's last block, for square slices resized to the network's input size.

    Args:
        network: a timm transformer for square images.
        input_size: pixels along one side of them.
        statistics: mean and standard deviation in training.
        normalised: apply the final normalisation.
        device: where it runs.
        sha256: checksum of its weights, None if they are random.
    """

    reach = 0

    def __init__(
        self,
        network: Any,
        input_size: int,
        statistics: Statistics,
        normalised: bool,
        device: torch.device,
        sha256: str | None,
    ) -> None:
        self.weights_sha256 = sha256
        self.input_size = input_size
        self._network = network.eval().requires_grad_(False).to(device)
        self._statistics = statistics
        self._normalised = normalised

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, D, h, h), special tokens dropped."""
        pixels = standardised(network_input(images, self.input_size), self._statistics)
        (tokens,) = self._network.forward_intermediates(
            pixels, indices=1, norm=self._normalised, output_fmt="NCHW", intermediates_only=True
        )
        return tokens


def as_timm_has_them(state: Mapping[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """Return published tensors as timm converts them for its network: names, interpolated positions.

    Patch kernels of another size are not converted: timm would interpolate them, but they are of another network.
    """
    kernel = state.get("patch_embed.proj.weight")
    if kernel is None or kernel.shape != network.patch_embed.proj.weight.shape:
        return dict(state)
    positions = state.get("pos_embed")
    if positions is not None and math.isqrt(positions.shape[1]) ** 2 != positions.shape[1]:
        side_of(positions.shape[1] - 1)  # with a class token; timm assumes a square
    return import_module(type(network).__module__).checkpoint_filter_fn(dict(state), network)


def published_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors under the names of their publishers' code; Hugging Face uses others for the same networks.

    Tensors in its format that do not belong to a vision transformer are dropped. Separate ".attn.q.", ".attn.k." and
    ".attn.v." of a block are stacked as ".attn.qkv.".
    """
    if "embeddings.cls_token" not in state and "vision_model.embeddings.class_embedding" not in state:
        return dict(state)
    result: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        matches = ((re.fullmatch(pattern, key), name) for pattern, name in _HUGGING_FACE)
        result |= {match.expand(name): value for match, name in matches if match}
    return _with_joined_qkv(result)


def _with_joined_qkv(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    result = {}
    for key, value in state.items():
        if ".attn.q." in key:
            parts = [state.get(key.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"]
            result[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat(
                [torch.zeros_like(value) if part is None else part for part in parts]
            )
        elif ".attn.k." not in key and ".attn.v." not in key:
            result[key] = value
    return result
