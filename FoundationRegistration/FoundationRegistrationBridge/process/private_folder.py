"""A private folder for exchanged files that is always removed, at the latest when the next one is created."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO

import slicer

from ..errors import BridgeError
from ..library import add_library_to_path

_PREFIX = "FoundationRegistration-"
_LOCK = "in-use.lock"


class PrivateFolder:
    """A temporary folder that only this user can read.

    A lock, which the system releases when the process ends, distinguishes folders in use from those left by a killed
    session, which are removed when a folder is created.

    Args:
        parent: parent folder; Slicer's temporary folder, or the system's, if None.

    Raises:
        BridgeError: no folder can be created there.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(getattr(getattr(slicer, "app", None), "temporaryPath", "") or tempfile.gettempdir())
        try:
            _remove_abandoned(parent)
            lock = None
            while lock is None:  # another session may consider the folder abandoned before its lock is held
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
                lock = _hold(self.path / _LOCK)
        except OSError as error:
            msg = f"No temporary folder can be created in '{parent}' ({error.strerror}); choose another one."
            raise BridgeError(msg) from error
        self._remove = weakref.finalize(self, _remove, self.path, lock)  # at the latest when Slicer exits

    def remove(self) -> None:
        """Remove the folder and its content; a second call does nothing."""
        self._remove()


def _hold(path: Path) -> IO[bytes] | None:
    """Create and hold a lock file; None if it was removed or taken before it was held."""
    add_library_to_path()
    from FoundationRegistrationLib.files.locks import try_to_hold

    try:
        return try_to_hold(path)
    except FileNotFoundError:
        return None


def _remove(folder: Path, lock: IO[bytes]) -> None:
    lock.close()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    add_library_to_path()
    from FoundationRegistrationLib.files.locks import try_to_hold

    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or just being created or removed
            lock = try_to_hold(folder / _LOCK, create=False)
            if lock is not None:
                with lock:  # until only the lock or nothing is left
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)  # Windows does not remove open files
