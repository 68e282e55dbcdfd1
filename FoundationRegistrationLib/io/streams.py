"""Lengths of stored data and checksums of compressed streams."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_OR_ZLIB = 47  # window bits for zlib: detect the format from the stream
_COMPRESSED_AT_ONCE = 1 << 20
_BYTES_AT_ONCE = 1 << 24
# Deflate compresses nothing to less than a thousandth.
_LARGEST_RATIO = 1100
# Trailing bytes that some programs and tapes leave.
_HARMLESS_EXCESS = 1024


def damaged(name: str) -> InputError:
    """Return the error for an incomplete file.

    Args:
        name: its name, such as "The fixed volume 'a.nii'".
    """
    return InputError(f"{name} is damaged or incomplete; copy it again.")


def pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the content of a file from its current position, decompressed if it is gzip.

    Raises:
        InputError: the gzip stream is truncated, or a checksum is wrong.
    """
    begin = stream.tell()
    magic = stream.read(len(GZIP_MAGIC))
    stream.seek(begin)
    if magic == GZIP_MAGIC:
        yield from inflated(stream, name)
    while piece := stream.read(_BYTES_AT_ONCE):
        yield piece


def inflated(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the content of a gzip file of one or more members, or of a zlib stream, and read it to its end.

    Each member's checksum and length are checked; trailing bytes that are not a member are ignored.

    Raises:
        InputError: it is truncated, or a checksum is wrong.
    """
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    while compressed := stream.read(_COMPRESSED_AT_ONCE):
        while compressed:
            piece = _decoded(decoder, compressed, name)
            yield piece
            compressed = decoder.unconsumed_tail
            while len(piece) == _BYTES_AT_ONCE and not compressed and not decoder.eof:
                piece = _decoded(decoder, b"", name)
                yield piece
            if decoder.eof:
                rest = decoder.unused_data
                rest += stream.read(max(0, len(GZIP_MAGIC) - len(rest)))
                if not rest.startswith(GZIP_MAGIC):
                    stream.seek(0, 2)
                    return
                decoder, compressed = zlib.decompressobj(_GZIP_OR_ZLIB), rest
    if not decoder.eof:
        raise damaged(name)


def _decoded(decoder: zlib._Decompress, compressed: bytes, name: str) -> bytes:
    try:
        return decoder.decompress(compressed, _BYTES_AT_ONCE)
    except zlib.error as error:
        raise damaged(name) from error


def check_possible(needed: int, stored: int, name: str) -> None:
    """Check that a file is long enough for this many bytes at the strongest compression.

    Raises:
        InputError: it is not.
    """
    if needed > _LARGEST_RATIO * stored:
        raise damaged(name)


def check_length(stored: int, needed: int, name: str, messages: list[str]) -> None:
    """Compare the number of stored voxel bytes with the header; warn of a few trailing ones.

    Raises:
        InputError: there are fewer, or many more.
    """
    if stored < needed:
        raise damaged(name)
    if stored > needed + _HARMLESS_EXCESS:
        msg = (
            f"{name} holds {stored - needed} bytes more than its header says, so one of them is wrong; copy or "
            "convert "
            "it again."
        )
        raise InputError(msg)
    if stored > needed:
        messages.append(
            f"{name} holds {stored - needed} bytes after its voxels, which were not read; check that it looks right."
        )


def counted(parts: Iterator[bytes], most: int) -> int:
    """Return the number of bytes, read to the end or until there are clearly too many."""
    total = 0
    for part in parts:
        total += len(part)
        if total > most + _BYTES_AT_ONCE:
            break
    return total
