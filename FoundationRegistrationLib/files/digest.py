"""What identifies the content of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import InputError

_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; for a folder, that of the hashes of all files in it.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for file in sorted(item for item in path.rglob("*") if item.is_file()):
                digest.update(bytes.fromhex(file_sha256(file)))
            return digest.hexdigest()
        with path.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        msg = f"'{path}' cannot be read ({error.strerror}); check its permissions."
        raise InputError(msg) from error
    return digest.hexdigest()
