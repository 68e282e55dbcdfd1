"""Vision transformers of timm as encoders of slices, and the names other codes give to their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..base import Statistics, network_input, standardised


class TokenEncoder:
    """The tokens that leave a transformer's last block, for square slices resized to the network's input size.

    Args:
        network: a transformer of timm made for square images.
        input_size: pixels along one side of them.
        statistics: mean and deviation the network was trained with.
        normalised: whether the final normalisation is applied.
        device: where it runs.
        sha256: checksum of its weights, None where they are random.
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


def renamed(state: Mapping[str, torch.Tensor], rules: Iterable[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Return the tensors whose whole name matches a rule (pattern, new name), under their new names.

    Separate ".attn.q.", ".attn.k." and ".attn.v." of a block are stacked as ".attn.qkv.".
    """
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    result = {}
    for key, value in state.items():
        for pattern, name in compiled:
            match = pattern.fullmatch(key)
            if match:
                result[match.expand(name)] = value
                break
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
