"""Names of input files: which of them can be read at all, and how they are shown to people."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import InputError

_LONGEST_SHOWN = 150


def shown(path: Path) -> str:
    """Return a path as text that can be printed anywhere; of a very long one its end."""
    text = os.fsencode(path).decode("utf-8", errors="replace").replace("\0", "?")
    return text if len(text) <= _LONGEST_SHOWN else f"...{text[-_LONGEST_SHOWN:]}"


def called(what: str, path: Path) -> str:
    """Return how a file is called in messages, such as "The fixed volume 'a.nii'"."""
    return f"The {what} '{shown(path)}'"


def check_input(path: Path, what: str) -> None:
    """Check that a path names a regular file or a folder, never a pipe or device, which may have no end.

    Args:
        path: of an input.
        what: what it is in messages, such as "fixed volume".

    Raises:
        InputError: it is missing, something else, or has a name that the libraries below cannot take.
    """
    name = called(what, path)
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{name} has letters in its name or folder that are not UTF-8; rename it."
        raise InputError(msg) from error
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{name} does not exist; check the path."
        raise InputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{name} cannot be found ({reason(error)}); check the path and your permission."
        raise InputError(msg) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        msg = f"{name} is a pipe or a device; give a file or a folder."
        raise InputError(msg)


def check_input_file(path: Path, what: str) -> None:
    """Check that a path names a regular file; see `check_input`.

    Raises:
        InputError: it does not.
    """
    check_input(path, what)
    if path.is_dir():
        msg = f"{called(what, path)} is a folder; give a file."
        raise InputError(msg)


def reason(error: Exception) -> str:
    """Return what the system says of an error, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
