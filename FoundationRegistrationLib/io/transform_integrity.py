"""Whether transform files (HDF5, text, MATLAB) are complete.

On incomplete files ITK's readers may crash, hang, or read zeros or truncated numbers.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from ..errors import InputError
from .streams import check_possible, damaged

# Beginning of a global heap, which holds strings. Format: "HDF5 File Format Specification", section III.E.
_HEAP = re.compile(rb"GCOL\x01\0\0\0")
_HEADER_BYTES = 16  # of a heap and of each object in it
_REFERENCE = struct.Struct("<IQI")  # to an object: its length, the address of its heap, its number
# ITK before 5 omitted a letter.
_PARAMETERS = (
    ("TransformFixedParameters", "TranformFixedParameters"),
    ("TransformParameters", "TranformParameters"),
)
_ON_A_GRID = ("DisplacementField", "BSpline")
_TEXT_BEGINNING = b"#Insight Transform File"
_MATLAB_ENDING = ".mat"
_MATLAB_HEADER = struct.Struct("<iiiii")  # kind, rows, columns, whether complex, length of the name
_MATLAB_TYPES = {0: "<f8", 10: "<f4"}


def check_whole_transform(path: Path, name: str) -> None:
    """Read a transform file once and check that its transforms are complete.

    Args:
        path: a file in an ITK format; others are ignored.
        name: its name in messages, such as "The transform file 'a.h5'".

    Raises:
        InputError: it is damaged or holds no transform.
    """
    try:
        if h5py.is_hdf5(path):
            _check_hdf5(path, name)
            return
        with path.open("rb") as stream:
            is_text = stream.read(len(_TEXT_BEGINNING)) == _TEXT_BEGINNING
            stream.seek(0)
            if is_text:
                _check_text(stream.read(), name)
            elif path.suffix.lower() == _MATLAB_ENDING:
                _check_matlab(stream, path.stat().st_size, name)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, struct.error) as error:
        raise damaged(name) from error


def _check_hdf5(path: Path, name: str) -> None:
    file_bytes = path.stat().st_size
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begins = [heap.start() for heap in _HEAP.finditer(content)]
        heaps = {begin: _heap(content, begin, name) for begin in begins}
        with h5py.File(path, "r") as file:
            parts = file.get("TransformGroup")
            if not isinstance(parts, h5py.Group):
                msg = f"{name} is an HDF5 file that holds no transform; give another file."
                raise InputError(msg)
            for number in range(len(parts)):
                kind = _text(parts[f"{number}/TransformType"], content, heaps)
                if not kind.startswith("Composite"):
                    fixed, parameters = _numbers(parts[str(number)], file_bytes, name)
                    _check_part(kind, fixed, parameters, name)


def _heap(content: mmap.mmap, begin: int, name: str) -> dict[int, int]:
    """Return the length of each object of a heap by number; they must fill it to its end."""
    end = begin + _length(content, begin)
    place = begin + _HEADER_BYTES
    lengths = {}
    while place + _HEADER_BYTES <= end <= len(content):
        number, length = int.from_bytes(content[place : place + 2], "little"), _length(content, place)
        step = _HEADER_BYTES + length + -length % 8 if number else length  # number 0 is the free space
        if step < _HEADER_BYTES:
            raise damaged(name)
        lengths[number] = length
        place += step
    if not place <= end <= len(content):
        raise damaged(name)
    return lengths


def _length(content: mmap.mmap, place: int) -> int:
    return int.from_bytes(content[place + 8 : place + 16], "little")


def _text(item: h5py.Dataset, content: mmap.mmap, heaps: Mapping[int, Mapping[int, int]]) -> str:
    """Return a string after checking that its address is valid, which the HDF5 library does not."""
    if item.shape != (1,) or not item.id.get_type().is_variable_str():
        msg = "not a single string"
        raise ValueError(msg)
    place = item.id.get_offset()
    length, heap, number = _REFERENCE.unpack(content[place : place + _REFERENCE.size])
    if number == 0 or length > heaps[heap][number]:
        msg = "a string beyond its heap"
        raise ValueError(msg)
    return str(item[0].decode())


def _numbers(part: h5py.Group, file_bytes: int, name: str) -> list[np.ndarray]:
    found = []
    for keys in _PARAMETERS:
        item = part[next((key for key in keys if key in part), keys[0])]
        if not isinstance(item, h5py.Dataset) or item.ndim != 1 or item.dtype.kind != "f":
            raise damaged(name)
        check_possible(item.nbytes, file_bytes, name)
        found.append(item[()])
    return found


def _check_text(content: bytes, name: str) -> None:
    """Check that each transform has both parameter lists, and that the last line is complete."""
    if not content[-1:].isspace():
        raise damaged(name)
    kind, lists = "Composite", {"FixedParameters": np.empty(0), "Parameters": np.empty(0)}
    for line in [*content.decode().splitlines(), "Transform: "]:
        key, is_entry, value = line.partition(":")
        if line.startswith("#") or not line.strip():
            continue
        if not is_entry or key.strip() not in ("Transform", "Parameters", "FixedParameters"):
            raise damaged(name)
        if key.strip() != "Transform":
            lists[key.strip()] = np.array(value.split(), dtype=np.float64)
            continue
        if not kind.startswith("Composite"):
            _check_part(kind, lists["FixedParameters"], lists["Parameters"], name)
        kind, lists = value.strip(), {}


def _check_matlab(stream: BinaryIO, file_bytes: int, name: str) -> None:
    """Check that the matrices of a file (MATLAB 4, little endian) come in pairs and end with the file."""
    found: list[tuple[str, np.ndarray]] = []
    while stream.tell() < file_bytes:
        kind, rows, columns, is_complex, name_length = _MATLAB_HEADER.unpack(stream.read(_MATLAB_HEADER.size))
        left = file_bytes - stream.tell()
        if is_complex or not 0 < name_length <= left or rows < 0 or columns < 0:
            raise damaged(name)
        title = stream.read(name_length).rstrip(b"\0").decode()
        wanted = rows * columns * np.dtype(_MATLAB_TYPES[kind]).itemsize
        if wanted > left - name_length:
            raise damaged(name)
        found.append((title, np.frombuffer(stream.read(wanted), _MATLAB_TYPES[kind])))
    if not found or len(found) % 2:
        raise damaged(name)
    for (kind_of, parameters), (title, fixed) in zip(found[::2], found[1::2], strict=True):
        if title != "fixed":
            raise damaged(name)
        _check_part(kind_of, fixed, parameters, name)


def _check_part(kind: str, fixed: np.ndarray, parameters: np.ndarray, name: str) -> None:
    """Check one transform: finite parameters, in the number that its grid needs, if it has one."""
    if not (np.isfinite(fixed).all() and np.isfinite(parameters).all()):
        msg = f"{name} has values that are not finite; compute or export it again."
        raise InputError(msg)
    if any(word in kind for word in _ON_A_GRID) and "Velocity" not in kind:
        dimension = int(kind.rpartition("_")[2])
        if np.prod(fixed[:dimension]) * dimension != parameters.size:
            raise damaged(name)
