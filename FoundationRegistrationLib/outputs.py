"""Results appear on the disk whole or not at all, in forms that any program can read."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, OutputError, RegistrationCancelledError

logger = logging.getLogger(__name__)

STAGING_PREFIX = ".foundation-registration-"


@contextlib.contextmanager
def complete_or_absent(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside ``path``; move it to ``path`` if the block ends well, else remove it.

    Args:
        path: the file to write; an existing one is replaced.

    Yields:
        The name to write to: hidden, in the same folder, so that the move cannot be half done.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({_reason(error)}); choose a folder that exists and that you may write to."
        raise OutputError(msg) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a private folder; move its files into ``target`` if the block ends well, else leave no trace.

    Whether ``target`` can be written is checked before the block runs. Files of the same name in it are
    replaced, all others are kept. Another thread may end the run by removing the private folder at any
    time: leaving the block then raises ``RegistrationCancelledError``, unless it ends with an error of its
    own.

    Args:
        target: folder of the results; it and its parents are made on success only.

    Yields:
        A new folder on the file system of ``target``, its name starting with ``STAGING_PREFIX``.

    Raises:
        OutputError: ``target`` cannot be made or written, or an ``OSError`` about the private folder, or
            about no named file, left the block (a full disk, for instance).
        RegistrationCancelledError: the private folder was removed meanwhile.
    """
    target = Path(target).absolute()
    staging = _private_folder(target)
    try:
        yield staging
        staging.stat()  # fails if another thread has removed it
        _move_files(staging, target)
    except OSError as error:
        if not staging.exists():
            msg = "The run was stopped and its unfinished results were removed; nothing was written."
            raise RegistrationCancelledError(msg) from error
        if not _concerns(error, staging, target):
            raise
        msg = f"{target} is full or cannot be written ({_reason(error)}); free some space or choose another folder."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_json(path: str | os.PathLike[str], content: Mapping[Any, Any]) -> None:
    """Write a dictionary as JSON, readable by people and strict for programs.

    The file appears under its name only when it is complete.

    Args:
        path: the file; an existing one is replaced.
        content: numbers, text, lists, dictionaries; also numpy scalars and arrays, paths and dataclasses.
            NaN and infinity become null.

    Raises:
        InputError: a value has no form in JSON.
        OutputError: the file cannot be written.
    """
    text = json.dumps(_plain(content, "content"), indent=2, ensure_ascii=False, allow_nan=False)
    with complete_or_absent(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _private_folder(target: Path) -> Path:
    """New folder in ``target`` or its nearest existing ancestor, which shows that one may write there."""
    nearest = next((folder for folder in (target, *target.parents) if os.path.lexists(folder)), target)
    if not nearest.is_dir():
        msg = f"The folder {target} cannot be made, because {nearest} is not a folder; choose another folder."
        raise OutputError(msg)
    try:
        staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=nearest))
        with contextlib.ExitStack() as trial:  # the names may be too long, or not allowed on this system
            trial.callback(shutil.rmtree, staging, ignore_errors=True)
            for name in target.relative_to(nearest).parts:
                (staging / name).mkdir()
                (staging / name).rmdir()
            trial.pop_all()
    except OSError as error:
        msg = f"The folder {target} cannot be written ({_reason(error)}); choose another folder."
        raise OutputError(msg) from error
    return staging


def _move_files(staging: Path, target: Path) -> None:
    """Move every file of one folder into another on the same file system; undo it all if one move fails."""
    aside = staging.with_name(f"{staging.name}-replaced")  # not inside: another thread may remove staging
    with contextlib.ExitStack() as undo:  # each step is entered before it is taken: it may be interrupted
        _make_folder(target, undo)
        for number, source in enumerate(sorted(path for path in staging.rglob("*") if not path.is_dir())):
            destination = target / source.relative_to(staging)
            _make_folder(destination.parent, undo)
            if destination.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(destination))
            if os.path.lexists(destination):
                _make_folder(aside, undo)
                replaced = aside / str(number)
                undo.callback(_put_back, replaced, destination)
                destination.replace(replaced)
            undo.callback(_remove_file, destination)
            source.replace(destination)
        undo.pop_all()
    shutil.rmtree(aside, ignore_errors=True)


def _make_folder(folder: Path, undo: contextlib.ExitStack) -> None:
    """Make a folder and its parents as far as they are missing, and enter their removal."""
    for missing in [path for path in (folder, *folder.parents) if not path.is_dir()][::-1]:
        undo.callback(_remove_folder, missing)
        missing.mkdir()


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it stays where someone else has put something in it
        folder.rmdir()


def _remove_file(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _put_back(replaced: Path, destination: Path) -> None:
    try:
        if os.path.lexists(replaced):
            replaced.replace(destination)
    except OSError:
        logger.exception("%s could not be restored; its earlier content is kept as %s", destination, replaced)


def _concerns(error: OSError, *folders: Path) -> bool:
    """Whether an error may come from making or writing one of the folders; not from a file elsewhere."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    path = Path(error.filename).absolute()
    return any(folder in (path, *path.parents) or path in folder.parents for folder in folders)


def _reason(error: OSError) -> str:
    return str(error.strerror or error)


def _plain(value: Any, place: str) -> Any:
    """The same value in the types of JSON."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    msg = f"{place} is a {type(value).__name__}, which JSON cannot hold; give numbers, text, lists or dicts."
    raise InputError(msg)
