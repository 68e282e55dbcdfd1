"""Results are written completely or not at all, in formats that any program can read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError, RegistrationCancelledError
from .commit import check_name, commit
from .private_folders import CommitGuard, Unguarded, private_folder, remove_abandoned


@contextlib.contextmanager
def complete_or_absent(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; move it to ``path`` if the block succeeds, else remove it.

    Args:
        path: the file to write; an existing one is replaced.

    Yields:
        The name to write to: hidden, in the same folder, so that the move is atomic.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({_reason(error)}); choose an existing folder that you may write to."
        raise OutputError(msg) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(
    target: str | os.PathLike[str], guard: CommitGuard | None = None, replaced: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a private folder; move its files into ``target`` if the block succeeds, else remove them.

    Whether ``target`` can be written is checked before the block runs. Files of the same name are replaced, all
    others are kept. All files are moved or none, also if the process is killed: the next use of ``target`` then
    finishes the move (`commit.settle`) and cleans up.

    Args:
        target: results folder; created with its parents on success only.
        guard: may end the process from another thread; checked before the files are moved. Until then it may remove
            the private folder; the end of the block then raises ``RegistrationCancelledError``, unless the block
            raised another error.
        replaced: names of an earlier run's files that are removed if not rewritten.

    Yields:
        A new folder on the file system of ``target``, in a folder whose name starts with ``STAGING_PREFIX``.

    Raises:
        OutputError: ``target`` cannot be created or written, or the block raised an ``OSError`` about the private
            folder or about no named file (a full disk, for instance).
        RegistrationCancelledError: the guard ends the process, or the private folder was removed.
    """
    guard = guard or Unguarded()
    target = Path(target).absolute()
    with _staging(target, guard) as staging:
        new = staging / "new"
        try:
            try:
                yield new
            except OutputError as error:  # about a file in the private folder, whose name means nothing to the user
                if isinstance(error.__cause__, OSError) and _concerns(error.__cause__, staging):
                    raise error.__cause__ from error
                raise
            commit(staging, target, guard, replaced)
        except OSError as error:
            if not new.exists():
                msg = "The run was stopped and its unfinished results were removed; nothing was written."
                raise RegistrationCancelledError(msg) from error
            if not _concerns(error, staging, target):
                raise
            msg = (
                f"{target} is full or cannot be written ({_reason(error)}); free some space or choose another folder."
            )
            raise OutputError(msg) from error


def check_writable(target: Path, guard: CommitGuard) -> None:
    """Check that `staged_folder` will be able to write into a folder, long before there is something to write.

    Raises:
        OutputError: it will not.
    """
    with _staging(target.absolute(), guard):
        pass


@contextlib.contextmanager
def _staging(target: Path, guard: CommitGuard) -> Iterator[Path]:
    """Yield a private folder with an empty folder "new" for the files of `target`."""
    check_name(target)
    nearest = _nearest_folder(target)
    for folder in {target, target.parent} - {nearest}:
        remove_abandoned(folder)
    with contextlib.ExitStack() as stack:
        try:
            staging = stack.enter_context(private_folder(nearest, guard))
            _try_names(staging, target.relative_to(nearest))
            (staging / "new").mkdir()
        except OSError as error:
            msg = f"The folder {target} cannot be written ({_reason(error)}); choose another folder."
            raise OutputError(msg) from error
        yield staging


def write_json(path: str | os.PathLike[str], content: Mapping[Any, Any]) -> None:
    """Write a dictionary as indented, strict JSON.

    The file gets its name only when it is complete.

    Args:
        path: the file; an existing one is replaced.
        content: numbers, text, lists, dictionaries; also numpy scalars and arrays, paths and dataclasses.
            NaN and infinity become null.

    Raises:
        InputError: a value cannot be represented in JSON.
        OutputError: the file cannot be written.
    """
    text = json.dumps(_plain(content, "content"), indent=2, ensure_ascii=False, allow_nan=False)
    with complete_or_absent(path) as unfinished:
        # File names may hold invalid characters; JSON writes them as Python does.
        unfinished.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _nearest_folder(target: Path) -> Path:
    """Return the target or its nearest existing ancestor."""
    nearest = next((folder for folder in (target, *target.parents) if os.path.lexists(folder)), target)
    if not nearest.is_dir():
        msg = f"The folder {target} cannot be created, because {nearest} is not a folder; choose another folder."
        raise OutputError(msg)
    return nearest


def _try_names(staging: Path, names: Path) -> None:
    """Raise an OSError if folders of these names cannot be created; they may be too long or not allowed."""
    for name in names.parts:
        (staging / name).mkdir()
        (staging / name).rmdir()


def _concerns(error: OSError, *folders: Path) -> bool:
    """Whether an error may come from creating or writing one of the folders, not from a file elsewhere."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    path = Path(error.filename).absolute()
    return any(folder in (path, *path.parents) or path in folder.parents for folder in folders)


def _reason(error: OSError) -> str:
    return str(error.strerror or error)


def _plain(value: Any, place: str) -> Any:
    """Return a value in JSON types."""
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
    msg = f"{place} is a {type(value).__name__}, which JSON cannot represent; give numbers, text, lists or dicts."
    raise InputError(msg)
