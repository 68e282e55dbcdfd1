"""Checks of a weight file before it is read: memory, size and code. Does not import torch.

A pickle is a program for a stack machine. Its operations are traced without running them: how many values each would
build, how deeply nested, and with which functions. Sources: the documentation of Python's `pickletools` and of
`torch.serialization`.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..files.bounded import open_regular, plain_json

# A hundred times the needs of the largest networks.
_MOST_HEADER_BYTES = 4 * 2**20
_MOST_PICKLE_BYTES = 8 * 2**20
_MOST_STEPS = 1_000_000
_MOST_WORK = 50_000_000
_DEEPEST = 100

# Data types of networks, with their bytes.
_STORAGES = {
    **{f"torch.{name}Storage": 8 for name in ("Double", "Long")},
    **{f"torch.{name}Storage": 4 for name in ("Float", "Int")},
    **{f"torch.{name}Storage": 2 for name in ("Half", "BFloat16", "Short")},
    **{f"torch.{name}Storage": 1 for name in ("Char", "Byte", "Bool")},
    "torch.storage.UntypedStorage": 1,
}
# Other names in checkpoints of plain tensors and metadata.
_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter\.Parameter|torch\.(Size|device)"
    r"|torch\.(b?float|u?int)\d+|torch\.bool|collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.set"
    r"|_codecs\.encode"
)
# Plain data of old checkpoints; any other name in a pickle counts as code.
_PLAIN_DATA = re.compile(
    r"argparse\.Namespace|numpy\.(dtype|ndarray)|numpy\.dtypes\.\w+|numpy\._?core\.multiarray\.(scalar|_reconstruct)"
    r"|omegaconf\.\w+\.\w+|pathlib\.\w*Path|(builtins|__builtin__)\.(bytearray|complex)"
)
_DAMAGED = "is damaged, truncated or not a checkpoint of plain tensors; get the official file"
_DESCRIPTION = 6  # maximum number of values that describe a storage
_GROWING = {"SETITEM", "SETITEMS", "APPEND", "APPENDS", "BUILD"}


class _RefusedError(Exception):
    """The file is refused; the message completes "The weight file ..."."""


class _Built(NamedTuple):
    """What a pickle operation builds: number of values, nesting depth, and the value itself if it is simple."""

    values: int = 1
    depth: int = 1
    itself: Any = None


def what_safetensors(path: Path) -> str | None:
    """Say what is wrong with the header of a safetensors file, as in "is truncated"; None if it is valid."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        behind = file.seek(0, io.SEEK_END) - 8 - length
        if behind < 0:
            return "is truncated: its end is missing"
        if length > _MOST_HEADER_BYTES:
            return f"has a header of {length / 1e6:.0f} MB, more than any weight file needs"
        file.seek(8)
        header = file.read(length)
    try:
        tensors = [value for name, value in plain_json(header).items() if name != "__metadata__"]
        end = max((int(value["data_offsets"][1]) for value in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "is a damaged safetensors file"
    return "is truncated: its end is missing" if end > behind else None


def what_archive(path: Path) -> str | None:
    """Say what a zip archive is if it is not a torch checkpoint, which has one `data.pkl` in its only folder."""
    try:
        with open_regular(path) as file:
            return _what_parts(_parts(file), path.stat().st_size)
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError):
        return "is truncated or damaged: the end of the archive is missing"


def what_unsafe(path: Path) -> str | None:
    """Say why a torch checkpoint is refused, as a completion of "The weight file ..."; None if it may be read.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            if file.read(4) == b"PK\x03\x04":
                _inspect_archive(file)
            else:
                file.seek(0)
                _inspect_legacy(file)
    except _RefusedError as refusal:
        return str(refusal)
    except (zipfile.BadZipFile, struct.error, ValueError, LookupError, TypeError, NotImplementedError, RuntimeError):
        return _DAMAGED  # raised by the zip and pickle readers on invalid content
    return None


class _BoundedFile:
    """A file with a limit on the bytes read at once: the archive directory may claim any size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            ValueError: more than the limit are requested.
        """
        content = self._file.read(min(size, _MOST_PICKLE_BYTES + 1) if size >= 0 else _MOST_PICKLE_BYTES + 1)
        if len(content) > _MOST_PICKLE_BYTES:
            msg = "the archive is larger than allowed"
            raise ValueError(msg)
        return content


def _parts(file: BinaryIO) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(_BoundedFile(file)) as archive:
        return archive.infolist()


def _what_parts(parts: list[zipfile.ZipInfo], size: int) -> str | None:
    names = [part.filename for part in parts]
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript program, which contains code"
    if sum(name.endswith("/data.pkl") for name in names) != 1:
        return "is a zip archive with other content (unpack it if the file is inside)"
    total = sum(part.file_size for part in parts)
    if len(set(names)) < len(names) or total > size or any(part.compress_type for part in parts):
        return (
            f"is compressed or packed unlike any official file, and would expand from {size / 1e6:.0f} to "
            f"{total / 1e6:.0f} MB"
        )
    return None


def _inspect_archive(file: BinaryIO) -> None:
    with zipfile.ZipFile(_BoundedFile(file)) as archive:
        sizes = {part.filename: part.file_size for part in archive.infolist()}
        name = next(name for name in sizes if name.endswith("/data.pkl"))
        with archive.open(name) as part:
            content = part.read(_MOST_PICKLE_BYTES + 1)
    if len(content) > _MOST_PICKLE_BYTES:
        msg = f"describes its tensors in {sizes[name] / 1e6:.0f} MB, more than any weight file needs"
        raise _RefusedError(msg)
    folder = name.removesuffix("data.pkl")
    for kind, key, count in _storages(io.BytesIO(content)):
        if sizes.get(f"{folder}data/{key}") != count * _STORAGES[kind]:
            raise _RefusedError(_DAMAGED)


def _inspect_legacy(file: BinaryIO) -> None:
    """The format before torch 1.6: five pickles, then the values of all storages."""
    head = io.BytesIO(file.read(_MOST_PICKLE_BYTES))
    left = file.seek(0, io.SEEK_END)
    found: dict[str, int] = {}
    for _ in range(5):
        found |= {key: count * _STORAGES[kind] for kind, key, count in _storages(head)}
    if sum(found.values()) > left:
        raise _RefusedError(_DAMAGED)


def _storages(stream: BinaryIO) -> Iterator[tuple[str, str, int]]:
    """Trace a pickle without running it; yield type, key and length of each storage it refers to.

    Raises:
        _RefusedError: it builds anything other than plain tensors, or more than a weight file needs.
    """
    stack: list[_Built] = []
    marks: list[int] = []
    memo: dict[Any, _Built] = {}
    work = 0
    for count, (step, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST_STEPS or work > _MOST_WORK:
            msg = "describes its tensors in more operations than any weight file needs"
            raise _RefusedError(msg)
        if step.name == "MARK":
            marks.append(len(stack))
        elif step.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif step.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif step.name == "GLOBAL":
            stack.append(_Built(itself=_harmless(str(argument).replace(" ", "."))))
        elif step.name == "PROTO" and argument != 2:
            msg = f"was saved with pickle protocol {argument}; save it again with the defaults of torch.save"
            raise _RefusedError(msg)
        else:
            taken = _taken(step, stack, marks)
            if step.name == "BINPERSID":
                yield _storage(taken[0].itself)
            built = _built(step.name, argument, taken)
            work += built.values  # as a dictionary key all of it is hashed
            stack += [built] * len(step.stack_after)


def _taken(step: pickletools.OpcodeInfo, stack: list[_Built], marks: list[int]) -> list[_Built]:
    """Pop the operands of an operation from the stack."""
    if pickletools.markobject in step.stack_before:
        begin = marks.pop() - step.stack_before.index(pickletools.markobject)
    else:
        begin = len(stack) - len(step.stack_before)
    if begin < 0:
        raise _RefusedError(_DAMAGED)
    taken = stack[begin:]
    del stack[begin:]
    return taken


def _built(name: str, argument: Any, taken: list[_Built]) -> _Built:
    """Return what an operation builds from its operands; neither size nor depth may exceed the limits."""
    values = 1 + sum(part.values for part in taken)
    inner = max((part.depth for part in taken[1:]), default=0) if name in _GROWING else 0
    depth = max(taken[0].depth, 1 + inner) if name in _GROWING else 1 + max((part.depth for part in taken), default=0)
    if values > _MOST_STEPS or depth > _DEEPEST:
        msg = "is nested too deeply or refers to itself too often to be read"
        raise _RefusedError(msg)
    itself = argument
    if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3") and len(taken) <= _DESCRIPTION:
        itself = tuple(part.itself for part in taken)
    return _Built(values, depth, itself)


def _storage(description: Any) -> tuple[str, str, int]:
    """The type, key and length of a storage that a pickle refers to."""
    _, kind, key, _, count = description[:5]
    if kind not in _STORAGES or not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise _RefusedError(_DAMAGED)
    return kind, key, count


def _harmless(name: str) -> str:
    """Return the name of a function or class that a pickle uses, if plain tensors need it."""
    if name in _STORAGES or _HARMLESS.fullmatch(name):
        return name
    if _PLAIN_DATA.fullmatch(name):
        msg = (
            f"contains Python objects besides its tensors ({name}), and reading them can run code; if you trust its "
            "source, save only the tensors with safetensors.torch.save_file where it was made, and give that file"
        )
    elif name.startswith("torch."):
        msg = f"holds tensors of a type that no encoder has ({ascii(name[:60])[1:-1]}); give the official file"
    else:
        msg = f"was refused: it would run code ({ascii(name[:60])[1:-1]}); do not use it, get the official file"
    raise _RefusedError(msg)
