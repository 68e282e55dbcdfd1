"""Private folders beside what they will replace, swept once no living process holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from .locks import release, try_to_hold

STAGING_PREFIX = ".foundation-registration-"
LOCK = ".foundation-registration.lock"  # of the folder of results, while files take their places there
_SUFFIX = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class CommitGuard(Protocol):
    """Whoever may end the process from another thread."""

    def remove_on_exit(self, *paths: Path) -> None:
        """Take note of what to remove if the process is ended before a commit."""

    def committing(self) -> AbstractContextManager[None]:
        """Hold off the end of the process while the context is open; entering it raises if the end was asked for."""


class Unguarded:
    """Nobody ends the process."""

    def remove_on_exit(self, *paths: Path) -> None:
        """Do nothing."""

    def committing(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def private_folder(parent: Path, guard: CommitGuard) -> Iterator[Path]:
    """Make a hidden folder that is removed at the end; if the process is killed, by the next use of its parent.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(parent)
    while True:
        handle, name = tempfile.mkstemp(prefix=STAGING_PREFIX, suffix=_SUFFIX, dir=parent)
        os.close(handle)
        lock = Path(name)
        folder = lock.with_suffix("")
        guard.remove_on_exit(folder, lock)
        try:
            held = try_to_hold(lock, create=False)
        except FileNotFoundError:
            continue  # another process has found it not yet held, and removed it
        except OSError as error:
            if error.errno not in NO_LOCKS:
                lock.unlink(missing_ok=True)
                raise
            held = lock.open("rb")  # then nobody can take it for abandoned either
        if held is not None:
            break
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder, held, lock)


def remove_abandoned(parent: Path) -> None:
    """Remove what killed processes left in a folder: whatever has a lock that nobody holds."""
    with contextlib.suppress(OSError):  # a folder that one may not read or write
        for lock in [*parent.glob(f"{STAGING_PREFIX}*{_SUFFIX}"), *parent.glob(LOCK)]:
            with contextlib.suppress(OSError):  # another user's, or removed at this moment
                held = try_to_hold(lock, create=False)
                if held is not None and lock.name == LOCK:
                    release(held, lock)
                elif held is not None:
                    _remove(lock.with_suffix(""), held, lock)


def _remove(folder: Path, held: IO[bytes], lock: Path) -> None:
    """Remove a private folder, and then its lock, which else lets the next use try again."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        held.close()
        return
    with contextlib.suppress(OSError):
        release(held, lock)
