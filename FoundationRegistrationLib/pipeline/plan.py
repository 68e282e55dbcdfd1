"""What a run will do: its encoders, and its steps with their share of the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..convex_adam.stages import Stage, step_names
from ..encoders import Encoder, EncoderInfo, encoder_info
from ..encoders.own import info_of
from ..settings import STRUCTURES_ONLY, Settings

# Fractions of the run, for the progress bar only.
_SHARES = {
    "preparation": 3.0,
    "initial alignment": 12.0,
    "encoding": 45.0,
    "encoding details": 10.0,
    "discrete search": 10.0,
    "instance optimisation": 22.0,
    "shared refinement": 22.0,
    "fluid refinement": 44.0,
    "inverse and warp": 8.0,
}
_SHARE_OF_OTHERS = 15.0


def step_shares(stages: Sequence[Stage], encoders: int) -> dict[str, float]:
    """Return the steps of a run with their fractions."""
    before = ["preparation", "initial alignment", "encoding", "encoding details"][: 2 + encoders]
    steps = [*before, *step_names(stages), "inverse and warp"]
    return {step: _SHARES.get(step, _SHARE_OF_OTHERS) for step in steps}


def encoders_of(
    settings: Settings, encoder: Encoder | str | None, device: torch.device
) -> tuple[Settings, list[EncoderInfo]]:
    """Return the settings with the encoder override, and the properties of each encoder in use; none for structures.

    Raises:
        SettingsError: an unknown encoder.
    """
    if isinstance(encoder, str):
        settings = dataclasses.replace(settings, encoder=encoder, detail_encoder="")
    elif encoder is not None:
        info = info_of(encoder, device)
        kept = settings.feature_cache_gb if getattr(encoder, "weights_sha256", None) else 0.0
        return dataclasses.replace(settings, encoder=info.name, detail_encoder="", feature_cache_gb=kept), [info]
    if settings.encoder == STRUCTURES_ONLY:
        return dataclasses.replace(settings, detail_encoder=""), []
    return settings, [encoder_info(name) for name in settings.encoders]
