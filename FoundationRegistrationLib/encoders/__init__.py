"""The registry of encoders: every module of this folder that has an `ENCODERS` tuple is in it.

Listing the encoders imports neither torch nor any network; `build_encoder` does.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from ..errors import SettingsError
from .base import Encoder, EncoderInfo

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

__all__ = ["Encoder", "EncoderInfo", "build_encoder", "encoder_info", "encoders"]


@cache
def encoders() -> dict[str, EncoderInfo]:
    """Return all encoders by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[EncoderInfo] = []
    for module in modules:
        found.extend(getattr(importlib.import_module(f"{__name__}.{module}"), "ENCODERS", ()))
    return {info.name: info for info in found}


def encoder_info(name: str) -> EncoderInfo:
    """Return the facts about an encoder.

    Raises:
        SettingsError: there is no encoder of that name.
    """
    known = encoders()
    if name not in known:
        msg = f"Unknown encoder '{name}'; choose one of: {', '.join(known)}."
        raise SettingsError(msg)
    return known[name]


def build_encoder(settings: Settings, device: torch.device) -> Encoder:
    """Return the encoder the settings name, its weights loaded onto the device.

    Raises:
        SettingsError: there is no encoder of that name.
        WeightsError: its weights are missing, damaged or those of another network.
    """
    return encoder_info(settings.encoder).build(settings, device)
