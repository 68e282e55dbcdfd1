"""The files of a run are moved into a folder all together or not at all, however the process ends.

The finished files are staged in a private folder, which is then renamed to `UNFINISHED` in the results folder in one
step: before it nothing has changed; after it, the next process to use the folder can finish the commit. Each replaced
file moves to ``old`` there and the new one moves out of ``new``; both moves can be undone, and every intermediate
state shows how far they got. A lock allows one process at a time to do this in a folder. The private folders have
locks too, which distinguish those in use from what a killed process left behind.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import OutputError
from .locks import release, try_to_hold
from .private_folders import LOCK, NO_LOCKS, STAGING_PREFIX, CommitGuard, Unguarded, private_folder, remove_abandoned

logger = logging.getLogger(__name__)
UNFINISHED = f"{STAGING_PREFIX}unfinished"
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 20.0  # moving files within a file system takes a thousandth of that


def check_name(path: Path) -> None:
    """Refuse a name that would crash ITK.

    Raises:
        OutputError: it is not text in UTF-8.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        msg = f"The name {os.fspath(path)!a} is not text in UTF-8; rename it, or set the system to UTF-8."
        raise OutputError(msg) from error


def commit(staging: Path, target: Path, guard: CommitGuard, replaced: Collection[str] = ()) -> None:
    """Move the files in ``staging / "new"`` into a folder, all or none.

    Args:
        staging: private folder on the target's file system.
        target: results folder; created with its parents.
        guard: checked before anything changes; delays the end of the process meanwhile.
        replaced: names of files of an earlier run that are removed if not rewritten.

    Raises:
        OSError: a file cannot be moved; the target is unchanged.
        OutputError: the target cannot be restored either; the message says what to do.
        RegistrationCancelledError: the process was told to end.
    """
    for path in (staging / "new", *staging.joinpath("new").rglob("*")):
        _to_disk(path)
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    done = False
    try:
        with contextlib.ExitStack() as lock:
            lock.enter_context(exclusive(target))
            with guard.committing(), lock:  # released before the process may end, so that no lock file stays
                finish(target)
                _prepare(staging, target, replaced)
                _exchange(staging, target)
                done = True
    finally:
        for folder in () if done else missing:
            _remove_empty(folder)


def settle(folder: Path) -> None:
    """Make a results folder consistent before reading: wait for a commit, finish an interrupted one.

    Raises:
        OutputError: the commit cannot be finished.
    """
    remove_abandoned(folder)
    try:
        if os.path.isdir(folder / UNFINISHED):  # noqa: PTH112 - takes any name
            with exclusive(folder):
                finish(folder)
    except OSError as error:
        msg = (
            f"A run was interrupted while moving its results into '{folder}', and the move cannot be finished now "
            f"({error.strerror or error}); make the folder writable and try again, or choose another output folder."
        )
        raise OutputError(msg) from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder against other commits in the block; the folder is created.

    On a file system without locks, wait many times longer than a commit takes.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / LOCK
    held = None
    try:
        while held is None:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another commit failed and removed the folder
                held = try_to_hold(path)
            if held is None:
                time.sleep(_POLL_SECONDS)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        path.unlink(missing_ok=True)
        _wait_for_others(folder)
    try:
        yield
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                release(held, path)


def finish(target: Path) -> None:
    """Finish an interrupted commit, or undo it if that fails; the caller holds the folder's lock.

    Raises:
        OSError: neither is possible.
    """
    unfinished = target / UNFINISHED
    if not unfinished.is_dir():
        return
    with private_folder(target, Unguarded()) as rubbish:
        try:
            _forward(unfinished, target)
        except OSError:
            logger.exception(
                "Results of an earlier run could not be moved into %s; the previous ones are kept", target
            )
            _back(unfinished, target, rubbish / "finished")
        else:
            _to_disk(target)
            unfinished.rename(rubbish / "finished")


def _exchange(staging: Path, target: Path) -> None:
    """Move all files, or none and raise."""
    unfinished = target / UNFINISHED
    staging.rename(unfinished)
    try:
        _to_disk(target)
        _forward(unfinished, target)
        _to_disk(target)
    except BaseException:
        _back(unfinished, target, staging)
        raise
    with contextlib.suppress(OSError):  # the next use finds it with nothing left to do
        unfinished.rename(staging)


def _wait_for_others(folder: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while folder.joinpath(UNFINISHED).exists() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


def _prepare(staging: Path, target: Path, replaced: Collection[str]) -> None:
    """Record which files are new and which are removed, and check that nothing is in the way."""
    for part in ("old", "absent", "gone", "made"):
        (staging / part).mkdir()
    names = _names(staging / "new")
    for name in names:
        destination = target / name
        if destination.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(destination))
        if not os.path.lexists(destination):
            _mark(staging / "absent" / name)
        if not destination.parent.is_dir():
            (staging / "made" / name).parent.mkdir(parents=True, exist_ok=True)
    for name in set(map(Path, replaced)) - set(names):
        if os.path.lexists(target / name) and not (target / name).is_dir():
            _mark(staging / "gone" / name)


def _forward(unfinished: Path, target: Path) -> None:
    """Move the new files in and the old ones aside, resuming where this or `_back` stopped."""
    new, old = unfinished / "new", unfinished / "old"
    for name in _names(new):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _move(target / name, old / name)
        (new / name).replace(target / name)
    for name in _names(unfinished / "gone"):
        _move(target / name, old / name)


def _back(unfinished: Path, target: Path, away: Path) -> None:
    """Move the old files back and the new ones aside, resuming where this or `_forward` stopped, and clean up."""
    new, old = unfinished / "new", unfinished / "old"
    try:
        for name in _names(unfinished / "absent"):
            if not os.path.lexists(new / name):
                _move(target / name, new / name)
        for name in _names(old):
            if not os.path.lexists(new / name):
                _move(target / name, new / name)
            (old / name).replace(target / name)
        for folder in sorted(unfinished.joinpath("made").rglob("*"), reverse=True):
            _remove_empty(target / folder.relative_to(unfinished / "made"))
        _to_disk(target)
        unfinished.rename(away)
    except OSError as error:
        msg = (
            f"The results could not be moved into '{target}', nor the earlier ones restored "
            f"({error.strerror or error}); close programs that use them or free some space, and run any command on "
            "the "
            f"folder again to finish: until then all files are kept in '{unfinished}'."
        )
        raise OutputError(msg) from error


def _names(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _mark(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _move(source: Path, destination: Path) -> None:
    """Move a file if it exists."""
    if os.path.lexists(source):
        destination.parent.mkdir(parents=True, exist_ok=True)
        source.replace(destination)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # kept if another program has put something in it
        folder.rmdir()


def _to_disk(path: Path) -> None:
    """Flush a file or the names in a folder to disk; a full disk may be reported only here."""
    folder = path.is_dir()
    if (folder and os.name == "nt") or path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_LOCKS:  # not supported by the file system
            raise
    finally:
        os.close(handle)
