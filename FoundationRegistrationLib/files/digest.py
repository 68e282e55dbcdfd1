"""What identifies the content of an input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

# Formats in two files, of which only one is named.
_HEADERS_AND_DATA = ((".hdr", ".img", ".img.gz"), (".mhd", ".raw", ".zraw"), (".nhdr", ".raw", ".raw.gz"))
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


def content_sha256s(path: Path) -> list[str]:
    """Return the hashes of an input: of the file or folder, and of the other file of a format in two files.

    Raises:
        InputError: one cannot be read.
    """
    return [file_sha256(path), *(file_sha256(part) for part in with_data(path) if part != path and part.is_file())]


def is_same_file(first: Path, second: Path) -> bool:
    """Whether two names are the same file, also through links or on a case-insensitive file system."""
    try:
        return first.samefile(second)
    except OSError:
        return False


def with_data(path: Path) -> Iterator[Path]:
    """Yield a file, and what the other file of a format in two files may be called."""
    yield path
    for endings in _HEADERS_AND_DATA:
        for ending in endings:
            if path.name.lower().endswith(ending):
                yield from (path.with_name(path.name[: -len(ending)] + other) for other in endings)
