"""Names of input files: whether they can be read, and how messages show them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import InputError

_LONGEST_SHOWN = 150


def shown(path: Path) -> str:
    """Return a path as printable text; only the end of a very long one."""
    text = os.fsencode(path).decode("utf-8", errors="replace").replace("\0", "?")
    return text if len(text) <= _LONGEST_SHOWN else f"...{text[-_LONGEST_SHOWN:]}"


def called(what: str, path: Path) -> str:
    """Return the name of a file in messages, such as "The fixed volume 'a.nii'"."""
    return f"The {what} '{shown(path)}'"


def check_input(path: Path, what: str) -> None:
    """Check that a path is a regular file or a folder, not a pipe or device, which may never end.

    Args:
        path: path of an input.
        what: its kind in messages, such as "fixed volume".

    Raises:
        InputError: it is missing, neither, or has a name that the file libraries cannot handle.
    """
    name = called(what, path)
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{name} has characters in its name or folder that are not UTF-8; rename it."
        raise InputError(msg) from error
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{name} does not exist; check the path."
        raise InputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{name} cannot be accessed ({reason(error)}); check the path and your permissions."
        raise InputError(msg) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        msg = f"{name} is a pipe or a device; give a file or a folder."
        raise InputError(msg)


def check_input_file(path: Path, what: str) -> None:
    """Check that a path is a regular file; see `check_input`.

    Raises:
        InputError: it is not.
    """
    check_input(path, what)
    if path.is_dir():
        msg = f"{called(what, path)} is a folder; give a file."
        raise InputError(msg)


def reason(error: Exception) -> str:
    """Return the system's description of an error, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
