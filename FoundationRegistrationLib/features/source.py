"""The encoder of a run: its weights are identified at once, but it is built only when needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import TypeVar

import torch

from ..encoders import Encoder, EncoderInfo
from ..encoders.fingerprint import weights_checksum
from ..settings import Settings

_T = TypeVar("_T")
# By the name of an encoder, what it was made with and the encoder; None where none are kept.
_KEPT: ContextVar[dict[str, tuple[Hashable, Encoder]] | None] = ContextVar("kept encoders", default=None)


class EncoderSource:
    """Builds the encoder on the requested device, and keeps the last one.

    It can also keep the encoding of the fixed volume, for registering many moving volumes to it.

    Args:
        info: properties of the encoder.
        build: builds it on a device.
        fingerprint: identifies its weights; if None, `fingerprint` builds the encoder.

    Attributes:
        info: properties of the encoder.
        keeps_fixed: whether the encoding of the fixed volume is kept.
    """

    def __init__(
        self, info: EncoderInfo, build: Callable[[torch.device], Encoder], fingerprint: str | None = None
    ) -> None:
        self.info = info
        self.keeps_fixed = False
        self._of_fixed: dict[Hashable, object] = {}
        self._build = build
        self._fingerprint = fingerprint
        self._made: tuple[torch.device, Encoder] | None = None

    @classmethod
    def from_settings(cls, settings: Settings, info: EncoderInfo, device: torch.device) -> EncoderSource:
        """Return the source of an encoder, which is built now only if needed to identify its weights.

        Raises:
            SettingsError: its input size does not fit it.
            WeightsError: its weights are not found.
        """
        fingerprint = weights_checksum(info, settings)
        alike = dataclasses.replace(settings, working_spacing_mm=1.0, slice_gap=1)  # which suit the volumes

        def build(where: torch.device) -> Encoder:
            kept = _KEPT.get()
            if kept is None or fingerprint is None:
                return info.build(settings, where)
            key = (alike, fingerprint, where)
            if info.name not in kept or kept[info.name][0] != key:
                kept.pop(info.name, None)  # free its memory before building the next one
                kept[info.name] = (key, info.build(settings, where))
            return kept[info.name][1]

        source = cls(info, build, fingerprint)
        if source._fingerprint is None:
            source.on(device)
        return source

    def on(self, device: torch.device) -> Encoder:
        """Return the encoder on a device, its weights loaded.

        Raises:
            WeightsError: its weights are missing, damaged or of another network.
        """
        if self._made is None or self._made[0] != device:
            self._made = None  # free its memory before building the next one
            self._made = (device, self._build(device))
        return self._made[1]

    def release(self) -> None:
        """Release the encoder and its memory; it is built again when requested."""
        self._made = None

    def of_fixed(self, key: Hashable, encode: Callable[[], _T]) -> _T:
        """Return the encoding of the fixed volume: the last one, if it is kept and was made from the same.

        Args:
            key: identifies all that determines the encoding.
            encode: makes it.
        """
        if not self.keeps_fixed:
            return encode()
        if key not in self._of_fixed:
            self._of_fixed = {key: encode()}
        return self._of_fixed[key]  # type: ignore[return-value]

    def fingerprint(self, device: torch.device) -> str:
        """Return what identifies the features of the encoder beside the settings; empty if nothing does."""
        if self._fingerprint is None:
            self._fingerprint = self.info.name if self.info.is_formula else weights_of(self.on(device)) or ""
        return self._fingerprint


def keep_encoders() -> None:
    """From now on, in this context, keep each encoder from one registration to the next with the same settings."""
    if _KEPT.get() is None:
        _KEPT.set({})


def weights_of(encoder: Encoder) -> str | None:
    """Return the checksum of an encoder's weights, None if it does not give one."""
    return getattr(encoder, "weights_sha256", None)
