"""What identifies the weights of an encoder, without loading them. Does not import torch."""

from __future__ import annotations

import hashlib

from ..settings import Settings
from .base import EncoderInfo


def weights_checksum(info: EncoderInfo, settings: Settings) -> str | None:
    """Return the checksum of the weight files without loading them, None if they cannot be identified.

    For weights from a package, it is the checksum that is verified when they are loaded.

    Raises:
        WeightsError: they are not at the place that the settings name, or cannot be read.
    """
    if info.packaged_sha256:
        return info.packaged_sha256
    # To list the encoders all files here are imported, also where Slicer has none of the packages for weights.
    from ..weights import file_digest, locate

    files = [locate(name, settings.weights, beside=name != info.weights[-1]) for name in info.weights]
    digests = [bytes.fromhex(file_digest(file, "sha256")) for file in files if file is not None]
    if not digests or len(digests) < len(files):
        return None
    return hashlib.sha256(b"".join(digests)).hexdigest()
