"""Private folders beside what they will replace, cleaned up once no running process holds them."""

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
LOCK = ".foundation-registration.lock"  # of the results folder, while files are moved into it
_SUFFIX = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class CommitGuard(Protocol):
    """May end the process from another thread."""

    def remove_on_exit(self, *paths: Path) -> None:
        """Register what to remove if the process ends before a commit."""

    def committing(self) -> AbstractContextManager[None]:
        """Delay the end of the process within the context; raises on entry if the end was requested."""


class Unguarded:
    """Never ends the process."""

    def remove_on_exit(self, *paths: Path) -> None:
        """Do nothing."""

    def committing(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def private_folder(parent: Path, guard: CommitGuard) -> Iterator[Path]:
    """Create a hidden folder that is removed at the end or, if the process is killed, on the next use of its parent.

    Raises:
        OSError: it cannot be created.
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
            continue  # another process found it not yet held and removed it
        except OSError as error:
            if error.errno not in NO_LOCKS:
                lock.unlink(missing_ok=True)
                raise
            held = lock.open("rb")  # so that nobody can consider it abandoned
        if held is not None:
            break
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder, held, lock)


def remove_abandoned(parent: Path) -> None:
    """Remove what killed processes left in a folder: whatever has an unheld lock."""
    with contextlib.suppress(OSError):  # a folder without read or write permission
        for lock in [*parent.glob(f"{STAGING_PREFIX}*{_SUFFIX}"), *parent.glob(LOCK)]:
            with contextlib.suppress(OSError):  # another user's, or just being removed
                held = try_to_hold(lock, create=False)
                if held is not None and lock.name == LOCK:
                    release(held, lock)
                elif held is not None:
                    _remove(lock.with_suffix(""), held, lock)


def _remove(folder: Path, held: IO[bytes], lock: Path) -> None:
    """Remove a private folder, then its lock; if that fails, the next use tries again."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        held.close()
        return
    with contextlib.suppress(OSError):
        release(held, lock)
