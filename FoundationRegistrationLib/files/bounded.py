"""Reading untrusted files: regular files only, up to a maximum size, strict JSON only."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

# More digits than any sensible integer.
_MOST_DIGITS = 40


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; pipes and devices, which may block or never end, are not opened.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    _refuse_irregular(path.stat(), path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(os.open(path, flags), "rb")  # noqa: PTH123, SIM115 - by its descriptor; the caller closes it
    try:
        _refuse_irregular(os.fstat(file.fileno()), path)  # it may have been replaced meanwhile
    except OSError:
        file.close()
        raise
    return file


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `most_bytes`.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes / 1e6:.0f} MB", str(path))
    return content


def plain_json(content: bytes) -> Any:
    """Return the content of a UTF-8 JSON text that all parsers read alike.

    Raises:
        ValueError: it is not JSON, a name is given twice, a number is not finite or has too many digits, or the
            nesting is too deep. The message is one line that completes "cannot be read: ".
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = "it is not UTF-8 text"
        raise ValueError(msg) from error
    try:
        return json.loads(
            text,
            object_pairs_hook=_named_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_counted,
        )
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def object_in(path: Path, most_bytes: int) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file is missing, too large, damaged or holds something else."""
    try:
        content = plain_json(read_bounded(path, most_bytes))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _refuse_irregular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            msg = f"{shortened(name)} is given twice"
            raise ValueError(msg)
        result[name] = value
    return result


def _refuse_constant(word: str) -> float:
    msg = f"{word} is not a number"
    raise ValueError(msg)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        msg = f"{shortened(digits)} is too large a number"
        raise ValueError(msg)
    return value


def _counted(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        msg = f"a number has {len(digits)} digits"
        raise ValueError(msg)
    return int(digits)


def shortened(value: object, most: int = 60) -> str:
    """Return a value as one line of limited length for a message."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    if isinstance(value, str):
        text = repr(value[:most])
        return text if len(value) <= most else f"{text[:-1]}...{text[-1]}"
    if isinstance(value, (list, tuple, dict, set)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:most]
