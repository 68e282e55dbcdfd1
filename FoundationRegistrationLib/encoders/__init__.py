"""The encoder registry: those that modules of this folder declare as `ENCODERS` or `FAMILIES`, and those of plugins.

Other packages add an `EncoderInfo` or an `EncoderFamily` as an entry point of `foundation_registration.encoders`.

Listing the encoders does not import torch; `build_encoder` does.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..runtime.plugins import plugins
from .base import Encoder, EncoderFamily, EncoderInfo

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

__all__ = ["Encoder", "EncoderFamily", "EncoderInfo", "build_encoder", "encoder_families", "encoder_info", "encoders"]


@cache
def encoders() -> dict[str, EncoderInfo]:
    """Return all encoders by name."""
    added = [info for info in plugins("encoders").values() if isinstance(info, EncoderInfo)]
    return {info.name: info for info in (*added, *_declared("ENCODERS"))}


@cache
def encoder_families() -> dict[str, EncoderFamily]:
    """Return the families of encoders that are not listed individually, by prefix."""
    added = [family for family in plugins("encoders").values() if isinstance(family, EncoderFamily)]
    return {family.prefix: family for family in (*added, *_declared("FAMILIES"))}


def _declared(attribute: str) -> list[Any]:
    """Yield what each module of this folder declares under a name."""
    found: list[Any] = []
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        found.extend(getattr(importlib.import_module(f"{__name__}.{module}"), attribute, ()))
    return found


def encoder_info(name: str) -> EncoderInfo:
    """Return the facts about an encoder.

    Raises:
        SettingsError: there is no encoder of that name.
    """
    known = encoders()
    if name in known:
        return known[name]
    for prefix, family in encoder_families().items():
        if name.startswith(prefix):
            return family.resolve(name)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or ["litemedsam", "mind", "sam"]
    near += [f"{prefix}NAME" for prefix in encoder_families()]
    msg = f"Unknown encoder '{name}'; did you mean {', '.join(near)}? `foundation-registration encoders` lists all."
    raise SettingsError(msg)


def build_encoder(settings: Settings, device: torch.device) -> Encoder:
    """Return the encoder named in the settings, its weights loaded onto the device.

    Raises:
        SettingsError: there is no encoder of that name, or the input size does not fit it.
        WeightsError: its weights are missing, damaged or of another network.
    """
    return encoder_info(settings.encoder).build(settings, device)
