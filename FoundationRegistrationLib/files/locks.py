"""File locks, which the system releases when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO


def try_to_hold(path: Path, *, create: bool = True) -> IO[bytes] | None:
    """Hold a lock file for as long as the returned file stays open.

    Args:
        path: the lock file.
        create: create it if it is missing.

    Returns:
        The open file; None if another process or thread holds it or has just removed it.

    Raises:
        FileNotFoundError: it is missing and `create` is false, or its folder is missing.
        OSError: it cannot be opened, or the file system has no locks.
    """
    file = path.open("ab" if create else "r+b")
    try:
        if _lock(file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except FileNotFoundError:
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def release(file: IO[bytes], path: Path) -> None:
    """Remove and release a held lock file, in an order in which nobody can hold a removed one."""
    if os.name != "nt":
        path.unlink(missing_ok=True)
        file.close()
        return
    file.close()  # Windows does not remove open files, also if another process opened it meanwhile
    with contextlib.suppress(OSError):
        path.unlink()


def _lock(file: IO[bytes]) -> bool:
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
