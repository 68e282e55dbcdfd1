"""Whether NRRD and MetaImage files are complete: the length of the voxel data against the header, and checksums.

ITK's readers fill missing voxels with zeros, or notice only that a stream is short, not that it is damaged.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from .paths import check_input_file, shown
from .streams import check_length, check_possible, counted, damaged, inflated

_LONGEST_HEADER = 1 << 26
_COMPRESSED, _RAW, _DECIMAL, _HEXADECIMAL = "compressed", "raw", "decimal", "hexadecimal"
_NRRD_ENCODINGS = {
    **dict.fromkeys(("raw",), _RAW),
    **dict.fromkeys(("gz", "gzip"), _COMPRESSED),
    **dict.fromkeys(("txt", "text", "ascii"), _DECIMAL),
    **dict.fromkeys(("hex",), _HEXADECIMAL),
}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "uint64", "uint64_t", "double"), 8),
    "float": 4,
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR", "MET_ASCII_CHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT", "MET_LONG", "MET_ULONG"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


@dataclass(frozen=True)
class StoredVoxels:
    """Where and how the voxels of a file are stored.

    Attributes:
        files: the files that hold the voxels, in order; includes the header file if they follow the header.
        begin: offset of the first voxel in the header file, bytes.
        encoding: raw, compressed, or numbers as decimal or hexadecimal text.
        count: number of values.
        bytes_each: size of a value.
        skipped_lines: lines before the voxels of each file.
        skipped_bytes: bytes before the voxels of each file; -1: all but the voxels.
        compressed_bytes: length of the compressed stream, None if it extends to the end of the file.
        fields: all entries of the header.
    """

    files: Sequence[Path]
    begin: int
    encoding: str
    count: int
    bytes_each: int
    skipped_lines: int = 0
    skipped_bytes: int = 0
    compressed_bytes: int | None = None
    fields: dict[str, str] = field(default_factory=dict)


def nrrd_voxels(path: Path, name: str) -> StoredVoxels:
    """Locate the voxels of a NRRD file (format: https://teem.sourceforge.net/nrrd/format.html).

    Raises:
        InputError: the header is truncated or lacks a required field.
    """
    with path.open("rb") as stream:
        lines = _lines(stream, name)
        fields: dict[str, str] = {}
        is_ended = False
        listed: list[str] | None = None
        for line in itertools.islice(lines, 1, None):
            if listed is not None:
                listed.append(line.strip())
            elif not line.strip():
                is_ended = True
                break
            elif (match := re.match(r"([^#:][^:]*):(?!=)\s*(.*)", line)) is not None:
                key = match[1].strip().lower().replace(" ", "")
                fields[key] = match[2].strip()
                listed = [] if key == "datafile" and fields[key].split()[:1] == ["LIST"] else None
        begin = stream.tell()
    if not {"type", "dimension", "sizes", "encoding"} <= fields.keys():
        raise damaged(name)
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        is_complete = len(sizes) == int(fields["dimension"])
        each, encoding = _NRRD_BYTES[fields["type"].lower()], fields["encoding"].lower()
        lines_skipped, bytes_skipped = int(fields.get("lineskip", 0)), int(fields.get("byteskip", 0))
    except (KeyError, ValueError) as error:
        msg = f"{name} has an invalid NRRD header ({error}); copy or save it again."
        raise InputError(msg) from error
    if not is_complete or min(sizes) < 1 or ("datafile" not in fields and not is_ended):
        raise damaged(name)
    if encoding not in _NRRD_ENCODINGS:
        msg = f"{name} is compressed as '{encoding[:20]}', which is not supported; save it again with gzip or raw."
        raise InputError(msg)
    files = [path] if "datafile" not in fields else _data_files(path, fields["datafile"], listed, name)
    return StoredVoxels(
        files, begin, _NRRD_ENCODINGS[encoding], math.prod(sizes), each, lines_skipped, bytes_skipped, fields=fields
    )


def meta_voxels(path: Path, name: str) -> StoredVoxels:
    """Locate the voxels of a MetaImage file (format: https://itk.org/Wiki/ITK/MetaIO/Documentation).

    Raises:
        InputError: the header is truncated or lacks a required field.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        lines = _lines(stream, name)
        for line in lines:
            key, _, value = line.partition("=")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        begin = stream.tell()
        listed = [line.strip() for line in lines] if fields.get("ElementDataFile", "").startswith("LIST") else None
    if not {"NDims", "DimSize", "ElementType", "ElementDataFile"} <= fields.keys():
        raise damaged(name)
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        is_complete = len(sizes) == int(fields["NDims"])
        each = _META_BYTES[fields["ElementType"].removesuffix("_ARRAY")]
        channels, skipped = int(fields.get("ElementNumberOfChannels", 1)), int(fields.get("HeaderSize", 0))
        data_file = fields["ElementDataFile"]
        compressed = int(fields["CompressedDataSize"]) if "CompressedDataSize" in fields else None
    except (KeyError, ValueError) as error:
        msg = f"{name} has an invalid MetaImage header ({error}); copy or save it again."
        raise InputError(msg) from error
    if not is_complete or min(sizes) < 1 or not data_file:
        raise damaged(name)
    is_compressed = fields.get("CompressedData", "False").lower() in ("true", "1")
    is_text = not is_compressed and fields.get("BinaryData", "True").lower() in ("false", "0")
    is_local = data_file.upper() == "LOCAL"
    if is_compressed and is_local and compressed is None:
        msg = f"{name} does not give the length of its compressed voxels (CompressedDataSize); save it again."
        raise InputError(msg)
    return StoredVoxels(
        [path] if is_local else _data_files(path, data_file, listed, name),
        begin,
        _COMPRESSED if is_compressed else _DECIMAL if is_text else _RAW,
        math.prod(sizes) * channels,
        each,
        skipped_bytes=skipped,
        compressed_bytes=compressed if is_compressed else None,
        fields=fields,
    )


def check_whole(path: Path, voxels: StoredVoxels, name: str, messages: list[str]) -> None:
    """Read all voxels once and check their number and checksums.

    Args:
        path: the header file.
        voxels: their location.
        name: name of the volume in messages.
        messages: warnings are appended.

    Raises:
        InputError: they are incomplete or damaged.
    """
    needed = voxels.count * (voxels.bytes_each if voxels.encoding in (_RAW, _COMPRESSED) else 1)
    stored = 0
    for file in voxels.files:
        check_input_file(file, "data file")
        check_possible(needed // len(voxels.files), file.stat().st_size, name)
        with file.open("rb") as stream:
            stream.seek(voxels.begin if file == path else 0)
            for _ in range(voxels.skipped_lines):
                stream.readline()
            stored += _stored(stream, voxels, needed, name)
    if voxels.skipped_bytes == -1:
        stored = min(stored, needed)
    check_length(stored, needed, name, messages)


def _stored(stream: BinaryIO, voxels: StoredVoxels, needed: int, name: str) -> int:
    """Return how many bytes, or text values, follow in a file."""
    skipped = max(0, voxels.skipped_bytes)
    if voxels.encoding == _RAW:
        begin = stream.tell()
        return max(0, stream.seek(0, 2) - begin - skipped)
    if voxels.encoding == _COMPRESSED:
        part = stream if voxels.compressed_bytes is None else BytesIO(stream.read(voxels.compressed_bytes))
        return max(0, counted(inflated(part, name), needed) - skipped)
    stream.seek(skipped, 1)
    text = stream.read()
    if voxels.encoding == _HEXADECIMAL:
        return len(b"".join(text.split())) // (2 * voxels.bytes_each)
    if not text[-1:].isspace():  # the last value may have been truncated
        raise damaged(name)
    return len(text.split())


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a header as text; bytes that are not UTF-8 are kept for file names."""
    while line := stream.readline(_LONGEST_HEADER):
        if stream.tell() > _LONGEST_HEADER:
            msg = f"{name} has a header that does not end; it is damaged or not a volume."
            raise InputError(msg)
        yield line.decode("utf-8", errors="surrogateescape")


def _data_files(path: Path, value: str, listed: list[str] | None, name: str) -> list[Path]:
    """Return the files that a header names: one, a list that follows, or a pattern with first, last and step."""
    names = [line for line in listed if line] if listed is not None else [value]
    pattern = re.fullmatch(r"(.*%.*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(\s+\d+)?", value)
    if pattern is not None and listed is None:
        first, last, step = (int(pattern[index]) for index in (2, 3, 4))
        try:
            names = [pattern[1] % index for index in range(first, last + 1, step)]
        except (ValueError, TypeError) as error:
            raise damaged(name) from error
    files = [path.parent / each for each in names]
    for file in files:
        if "\0" in str(file) or not file.is_file():
            msg = f"{name} stores its voxels in '{shown(file)}', which is missing; copy all its files."
            raise InputError(msg)
    if not files:
        raise damaged(name)
    return files
