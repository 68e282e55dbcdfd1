"""The encoder of a run: known by its weights at once, built only when something has to be encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from ..encoders import Encoder, EncoderInfo
from ..settings import Settings
from ..weights import file_digest, locate


class EncoderSource:
    """Makes the encoder on the device that asks for it, and keeps the last one made.

    Args:
        info: facts of the encoder.
        build: makes it on a device.
        fingerprint: what tells its weights from any others; where None, `fingerprint` is found by building.

    Attributes:
        info: facts of the encoder.
    """

    def __init__(
        self, info: EncoderInfo, build: Callable[[torch.device], Encoder], fingerprint: str | None = None
    ) -> None:
        self.info = info
        self._build = build
        self._fingerprint = fingerprint
        self._made: tuple[torch.device, Encoder] | None = None

    @classmethod
    def from_settings(cls, settings: Settings, info: EncoderInfo, device: torch.device) -> EncoderSource:
        """Return the source of an encoder; it is built now if only that tells its weights.

        Raises:
            SettingsError: its input size does not fit it.
            WeightsError: its weights are not where they are looked for.
        """
        source = cls(info, lambda where: info.build(settings, where), _weights_checksum(info, settings))
        if source._fingerprint is None:
            source.on(device)
        return source

    def on(self, device: torch.device) -> Encoder:
        """Return the encoder on a device, its weights loaded.

        Raises:
            WeightsError: its weights are missing, damaged or those of another network.
        """
        if self._made is None or self._made[0] != device:
            self._made = None  # its memory is free before the next one is made
            self._made = (device, self._build(device))
        return self._made[1]

    def release(self) -> None:
        """Let go of the encoder, so that its memory is free; it is made again if it is asked for."""
        self._made = None

    def fingerprint(self, device: torch.device) -> str:
        """Return what tells the weights of the encoder from any others."""
        if self._fingerprint is None:
            self._fingerprint = weights_of(self.on(device)) or ""
        return self._fingerprint


def weights_of(encoder: Encoder) -> str | None:
    """Return the checksum of an encoder's weights, None where it does not tell."""
    return getattr(encoder, "weights_sha256", None)


def _weights_checksum(info: EncoderInfo, settings: Settings) -> str | None:
    """Return the checksum of the weight files without loading them, None if they cannot be told.

    For weights that come with a package, it is the checksum that they are compared with when they are loaded.
    """
    if info.packaged_sha256:
        return info.packaged_sha256
    files = [locate(name, settings.weights, beside=name != info.weights[-1]) for name in info.weights]
    digests = [bytes.fromhex(file_digest(file, "sha256")) for file in files if file is not None]
    if not digests or len(digests) < len(files):
        return None
    return hashlib.sha256(b"".join(digests)).hexdigest()
