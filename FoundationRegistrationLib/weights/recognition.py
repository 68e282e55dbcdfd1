"""Identifying files and checkpoints, for error messages. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.bounded import open_regular
from .inspection import what_archive, what_safetensors

_SNIFFED_BYTES = 1024
_QUOTED = 60
_LONGEST_HEADER = 2**48
_WIDTHS = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1536: "g"}


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like a safetensors file: the length of a JSON header, then the header."""
    with open_regular(path) as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def what_else(path: Path) -> str | None:
    """Say what a file is if it cannot be a complete weight file, as in "is empty"; None if it may be one."""
    with open_regular(path) as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself (get it with: git lfs pull)"
    text = _as_text(head)
    if text is not None:
        return _what_text(text)
    if is_safetensors(path):
        return what_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        return what_archive(path)
    return (
        None if head.startswith(b"\x80") else "is damaged or not a checkpoint"
    )  # a pickle, the format before torch 1.6


def what_network(state: Mapping[str, Any]) -> str:
    """Identify a network by the names and shapes of its tensors, as in "a DINOv2 ViT-S/14"."""
    shapes = {name.removeprefix("module."): tuple(tensor.shape) or (1,) for name, tensor in state.items()}
    for describe in (_what_sam, _what_clip, _what_hugging_face, _what_vit):
        found = describe(shapes)
        if found:
            return found
    first = shapes.get("model.0.weight", ())
    if len(first) == 5:
        return f"a 3D U-Net like anatomix, {first[0]} channels wide"
    if {"conv1.weight", "layer1.0.conv1.weight"} <= shapes.keys():
        return "a ResNet"
    return f"an unknown network ({len(shapes)} tensors, the first is '{next(iter(shapes), '')}')"


def _as_text(head: bytes) -> str | None:
    """The bytes as text, None if they are not text; a truncated last character is ignored."""
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            text = head[:end].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text.lstrip("\ufeff \t\r\n") if all(sign.isprintable() or sign.isspace() for sign in text) else None
    return None


def _what_text(text: str) -> str:
    quoted = " ".join(text.split())[:_QUOTED]
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        page = f" ('{' '.join(title.group(1).split())[:_QUOTED]}')" if title else ""
        return f"is a web page{page}, perhaps an error page saved under the file's name"
    if text.startswith(("{", "[")):
        return f"is JSON, perhaps an error message saved under the file's name ('{quoted}')"
    return f"is text ('{quoted}')"


def _what_sam(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    inner = {name.removeprefix("image_encoder."): shape for name, shape in shapes.items()}
    if "patch_embed.seq.0.c.weight" in inner:
        return "a TinyViT, the encoder of LiteMedSAM and MobileSAM"
    if "neck.0.weight" in inner and "pos_embed" in inner:
        return f"a SAM {_vit(inner['pos_embed'][-1], inner)}"
    return None


def _what_clip(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if "visual.trunk.patch_embed.proj.weight" in shapes:
        width = shapes["visual.trunk.patch_embed.proj.weight"][0]
        return f"a BiomedCLIP or another CLIP of open_clip with a {_vit(width, shapes, 'visual.trunk.')}"
    if "visual.conv1.weight" in shapes or any(name.startswith("vision_model.") for name in shapes):
        return "a CLIP"
    return None


def _what_hugging_face(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    inner = {re.sub(r"^(dinov2|model|backbone)\.", "", name): shape for name, shape in shapes.items()}
    if "embeddings.patch_embeddings.weight" in inner:
        width = inner["embeddings.patch_embeddings.weight"]
        return f"a DINOv3 ViT-{_WIDTHS.get(width[0], width[0])}/{width[-1]} in Hugging Face format"
    if "embeddings.patch_embeddings.projection.weight" in inner:
        width = inner["embeddings.patch_embeddings.projection.weight"]
        kind = "DINOv2 " if "encoder.layer.0.layer_scale1.lambda1" in inner else ""
        return f"a {kind}ViT-{_WIDTHS.get(width[0], width[0])}/{width[-1]} in Hugging Face format"
    return None


def _what_vit(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if "patch_embed.proj.weight" not in shapes:
        return None
    width = shapes["patch_embed.proj.weight"][0]
    scaled = any(name.startswith("blocks.") and ".ls1.gamma" in name for name in shapes)
    if "storage_tokens" in shapes or "rope_embed.periods" in shapes:
        return f"a DINOv3 {_vit(width, shapes)}"
    if scaled and "cls_token" in shapes and "pos_embed" in shapes:
        registers = " with registers" if {"register_tokens", "reg_token"} & shapes.keys() else ""
        return f"a DINOv2 {_vit(width, shapes)}{registers}"
    return f"a {_vit(width, shapes)}"


def _vit(width: int, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> str:
    patch = shapes.get(f"{prefix}patch_embed.proj.weight", (16,))[-1]
    return f"ViT-{_WIDTHS.get(width, width)}/{patch}"
