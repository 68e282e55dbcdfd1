"""Whether a weight file is the one its publishers gave out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import WeightsError
from ..files.bounded import open_regular
from .catalogue import WeightsEntry, weights_entry
from .recognition import what_network
from .store import locate, missing_message
from .tensors import read_tensors, refuse_no_weight_file, unreadable_message

_CHUNK = 2**20


def verify(name: str | WeightsEntry, given: str = "") -> dict[str, str | None]:
    """Check the file of an entry: whole, as published, readable as tensors.

    Returns:
        name, path, sha256, the network the tensors seem to be of, and the published checksum that `agrees_with` the
        file (None where the publisher gives none or the file has another name).

    Raises:
        WeightsError: it is missing or something is wrong with it.
    """
    entry = weights_entry(name)
    path = locate(entry, given)
    if path is None:
        raise WeightsError(missing_message(entry))
    refuse_another_file(path, entry)
    compared = entry.checksum if path.name == entry.filename else None
    return {
        "name": entry.name,
        "path": str(path),
        "network": what_network(read_tensors(path)),
        "agrees_with": compared,
        "sha256": file_digest(path, "sha256"),
    }


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file, read in pieces.

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
    """Say how a file differs from what the publisher says of it; None if it does not, as far as that is known.

    Raises:
        WeightsError: the file cannot be read.
    """
    if entry.checksum is None:
        return None
    algorithm, published = entry.checksum.split(":")
    found = file_digest(path, algorithm)
    if found.startswith(published):
        return None
    return f"its {algorithm} begins with {found[: len(published)]}, that of the published file with {published}"


def refuse_another_file(path: Path, entry: WeightsEntry) -> None:
    """Refuse what is no weight file, and a file under the publisher's name that is not the publisher's."""
    refuse_no_weight_file(path)
    difference = difference_from_published(path, entry) if path.name == entry.filename else None
    if difference is not None:
        msg = (
            f"The weight file '{path}' is damaged or not the published one of '{entry.name}' ({difference}); get it "
            "again, or give it another name if it is a file of your own."
        )
        raise WeightsError(msg)
