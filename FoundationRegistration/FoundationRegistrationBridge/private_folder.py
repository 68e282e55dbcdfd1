"""A private folder for exchanged files that is removed in any case, at the latest when the next one is made."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import slicer

from .errors import BridgeError

_PREFIX = "FoundationRegistration-"
_LOCK = "in-use.lock"


class PrivateFolder:
    """A temporary folder that only this user can read.

    A lock, which the system releases when the process ends however it ends, tells folders in use from those
    left behind by a killed session; making a folder removes the latter.

    Args:
        parent: where to make it; Slicer's temporary folder, or the system's, if None.

    Raises:
        BridgeError: no folder can be made there.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(getattr(getattr(slicer, "app", None), "temporaryPath", "") or tempfile.gettempdir())
        try:
            _remove_abandoned(parent)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = (self.path / _LOCK).open("wb")
            _try_to_lock(self._lock)
        except OSError as error:
            msg = f"No temporary folder can be made in '{parent}' ({error.strerror}); choose another one."
            raise BridgeError(msg) from error
        self._remove = weakref.finalize(self, _remove, self.path, self._lock)  # at the latest when Slicer exits

    def remove(self) -> None:
        """Remove the folder and all in it; a second call does nothing."""
        self._remove()


def _remove(folder: Path, lock: Any) -> None:
    lock.close()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK).open("r+b") as lock:
                abandoned = _try_to_lock(lock)
        except OSError:  # another user's, or being made or removed at this moment
            continue
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)


def _try_to_lock(file: Any) -> bool:
    """Take the lock of an open file for as long as it stays open; tell whether it was free."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
