"""What registers volumes, the same for every pair of a run: device, settings, encoders and stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..convex_adam.method import search_spacing, stages_of
from ..convex_adam.stages import Stage, step_names
from ..encoders import Encoder, EncoderInfo, encoder_info
from ..encoders.own import info_of
from ..features import EncoderSource
from ..runtime.device import Runtime
from ..runtime.memory import check_limits
from ..settings import Settings

# Fractions of the registration of a pair, for the progress bar only.
_SHARES = {
    "preparation": 3.0,
    "initial alignment": 12.0,
    "encoding": 45.0,
    "encoding details": 10.0,
    "discrete search": 10.0,
    "instance optimisation": 22.0,
    "shared refinement": 22.0,
    "fluid refinement": 44.0,
    "motion floor": 0.5,
    "inverse and warp": 8.0,
}
_SHARE_OF_OTHERS = 15.0


@dataclasses.dataclass(frozen=True)
class Method:
    """What registers volumes; `suited_to` completes it for their voxel sizes.

    Attributes:
        runtime: device to compute on.
        settings: all parameters.
        infos: properties of the encoders, the main one first.
        stages: deformable stages.
        usual_stages: the stages of the settings.
        parts: for each encoder the settings with only that one.
        sources: builds each encoder when it is needed.
    """

    runtime: Runtime
    settings: Settings
    infos: tuple[EncoderInfo, ...]
    stages: tuple[Stage, ...]
    usual_stages: tuple[Stage, ...]
    parts: tuple[Settings, ...] = ()
    sources: tuple[EncoderSource, ...] = ()

    @classmethod
    def of(
        cls, settings: Settings, encoder: Encoder | str | None = None, stages: Sequence[Stage] | None = None
    ) -> Method:
        """Return the method of given settings.

        Args:
            settings: all parameters.
            encoder: overrides those of the settings, see `register`.
            stages: overrides those of the settings.

        Raises:
            SettingsError: an unknown encoder or similarity, or an unavailable device.
            InputError: the memory limits do not allow any run.
        """
        runtime = Runtime.start(settings.device)
        check_limits()
        settings, infos = _encoders(settings, encoder, runtime.device)
        usual = tuple(stages_of(settings))
        chosen = usual if stages is None else tuple(stages)
        settings = dataclasses.replace(settings, grid_spacing=search_spacing(chosen, settings))
        return cls(runtime, settings, infos, chosen, usual)

    def suited_to(self, *spacings: Sequence[float]) -> Method:
        """Return it for volumes of these voxel sizes (mm), with its encoders.

        Raises:
            SettingsError: the input size does not fit an encoder.
            WeightsError: weights are not found.
        """
        settings = self.settings.suited_to(*spacings)
        parts = tuple(dataclasses.replace(settings, encoder=info.name, detail_encoder="") for info in self.infos)
        sources = tuple(
            EncoderSource.from_settings(part, info, self.runtime.device)
            for part, info in zip(parts, self.infos, strict=True)
        )
        return dataclasses.replace(self, settings=settings, parts=parts, sources=sources)

    def shares(self) -> dict[str, float]:
        """Return the steps of the registration of a pair with their fractions."""
        before = ["preparation", "initial alignment", "encoding", "encoding details"][: 2 + len(self.infos)]
        steps = [*before, *step_names(self.stages), "inverse and warp"]
        return {step: _SHARES.get(step, _SHARE_OF_OTHERS) for step in steps}


def _encoders(
    settings: Settings, encoder: Encoder | str | None, device: torch.device
) -> tuple[Settings, tuple[EncoderInfo, ...]]:
    """Return the settings with the encoder override, and the properties of each encoder in use."""
    if isinstance(encoder, str):
        settings = dataclasses.replace(settings, encoder=encoder, detail_encoder="")
    elif encoder is not None:
        info = info_of(encoder, device)
        kept = settings.feature_cache_gb if getattr(encoder, "weights_sha256", None) else 0.0
        return dataclasses.replace(settings, encoder=info.name, detail_encoder="", feature_cache_gb=kept), (info,)
    if not settings.compares_intensities:
        settings = dataclasses.replace(settings, detail_encoder="")
    return settings, tuple(encoder_info(name) for name in settings.encoders)
