"""Files of one run take their places in a folder together or not at all, whatever ends the process.

The finished files wait in a private folder. It is renamed to `UNFINISHED` in the folder of the results, which is one
step: before it nothing has changed, and from then on whoever uses the folder next can finish. Each file that is
replaced goes to ``old`` there and the new one comes out of ``new``; both moves can be taken back, and every state in
between tells how far they came. Only one process at a time does this in a folder, under a lock. The private folders
have locks too, which tell those in use from what a killed process left behind.
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
_PATIENCE_SECONDS = 20.0  # moving files on one file system takes a thousandth of that


def check_name(path: Path) -> None:
    """Refuse a name that ITK cannot be given, since the process would crash.

    Raises:
        OutputError: it is not text in UTF-8.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        msg = f"The name {os.fspath(path)!a} is not text in UTF-8; rename it, or set the system to UTF-8."
        raise OutputError(msg) from error


def commit(staging: Path, target: Path, guard: CommitGuard, replaced: Collection[str] = ()) -> None:
    """Move the files below ``staging / "new"`` into a folder, all of them or none.

    Args:
        staging: private folder on the file system of the target.
        target: folder of the results; it and its parents are made.
        guard: asked before anything changes, and holds off the end of the process meanwhile.
        replaced: names of files that go away if they are not written anew, since they belong to the earlier ones.

    Raises:
        OSError: a file cannot be moved; the target is as it was before.
        OutputError: it cannot be put back as it was before either; it says what to do.
        RegistrationCancelledError: the guard was told to end the process.
    """
    for path in (staging / "new", *staging.joinpath("new").rglob("*")):
        _to_disk(path)
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    done = False
    try:
        with exclusive(target), guard.committing():
            finish(target)
            _prepare(staging, target, replaced)
            unfinished = target / UNFINISHED
            staging.rename(unfinished)
            try:
                _to_disk(target)
                _forward(unfinished, target)
                _to_disk(target)
            except BaseException:
                _back(unfinished, target, staging)
                raise
            done = True
            with contextlib.suppress(OSError):  # then the next use finds it, with nothing left to do
                unfinished.rename(staging)
    finally:
        for folder in () if done else missing:
            _remove_empty(folder)


def settle(folder: Path) -> None:
    """Make a folder of results whole before it is read: wait for a commit, finish one that was cut off.

    Raises:
        OutputError: it cannot be finished.
    """
    remove_abandoned(folder)
    try:
        if os.path.isdir(folder / UNFINISHED):  # noqa: PTH112 - takes any name
            with exclusive(folder):
                finish(folder)
    except OSError as error:
        msg = (
            f"A run was ended while its results took their places in '{folder}', and they cannot be put in order "
            f"now ({error.strerror or error}); make the folder writable and try again, or register into another one."
        )
        raise OutputError(msg) from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep all others that commit to a folder out of the block; the folder is made.

    On a file system without locks, whoever is at it is given the time that a commit takes many times over.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / LOCK
    held = None
    try:
        while held is None:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another one's failed, and it has removed the folder
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
    """Finish a commit that was cut off, or take it back if that fails; under the lock of the folder.

    Raises:
        OSError: neither can be done.
    """
    unfinished = target / UNFINISHED
    if not unfinished.is_dir():
        return
    with private_folder(target, Unguarded()) as rubbish:
        try:
            _forward(unfinished, target)
        except OSError:
            logger.exception("The results of an earlier run could not be put into %s; the ones before stay", target)
            _back(unfinished, target, rubbish / "finished")
        else:
            _to_disk(target)
            unfinished.rename(rubbish / "finished")


def _wait_for_others(folder: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while folder.joinpath(UNFINISHED).exists() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


def _prepare(staging: Path, target: Path, replaced: Collection[str]) -> None:
    """Note what is not there yet and what shall go, and see that nothing is in the way."""
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
    """Put the new files in their places and the old ones aside, from wherever this or `_back` stopped."""
    new, old = unfinished / "new", unfinished / "old"
    for name in _names(new):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _move(target / name, old / name)
        (new / name).replace(target / name)
    for name in _names(unfinished / "gone"):
        _move(target / name, old / name)


def _back(unfinished: Path, target: Path, away: Path) -> None:
    """Put the old files back and the new ones aside, from wherever this or `_forward` stopped, and all of it away."""
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
            f"The results could not take their places in '{target}', nor the earlier ones be put back "
            f"({error.strerror or error}); close what uses them, or free some space, and run a command on the folder "
            f"again, which puts it in order: until then all are kept in '{unfinished}'."
        )
        raise OutputError(msg) from error


def _names(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _mark(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _move(source: Path, destination: Path) -> None:
    """Move a file, if it is there."""
    if os.path.lexists(source):
        destination.parent.mkdir(parents=True, exist_ok=True)
        source.replace(destination)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it stays where someone else has put something in it
        folder.rmdir()


def _to_disk(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk; a full one may say so only now."""
    folder = path.is_dir()
    if (folder and os.name == "nt") or path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_LOCKS:  # what a file system does not offer
            raise
    finally:
        os.close(handle)
