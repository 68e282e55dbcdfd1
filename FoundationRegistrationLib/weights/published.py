"""Whether a weight file is the published one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import WeightsError
from ..files.bounded import open_regular
from .catalogue import WeightsEntry
from .tensors import unreadable_message

_CHUNK = 2**20


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open_regular(path) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    except OSError as error:
        raise WeightsError(unreadable_message(path, error)) from error
    return digest.hexdigest()


def difference_from_published(path: Path, entry: WeightsEntry) -> str | None:
    """Say how a file differs from the published checksum; None if it does not, or there is none."""
    algorithm, _, published = (entry.checksum or "").partition(":")
    found = file_digest(path, algorithm) if algorithm else ""
    if found.startswith(published):
        return None
    return f"its {algorithm} begins with {found[: len(published)]}, but that of the published file with {published}"
