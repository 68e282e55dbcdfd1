"""A process together with everything it starts, so that all of it can be ended at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

# The engine ends itself within a second of being asked; then two seconds are kept even on a busy machine.
_GRACE_SECONDS = 1.4


class ProcessTree:
    """Start a command in a process group of its own, with pipes for its output.

    Args:
        command: program and arguments.
        environment: of the new process.
        folder: where it runs.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        flags = 0
        if os.name == "nt":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name != "nt",
            creationflags=flags,
        )
        # Also when the application exits in the middle of a run.
        weakref.finalize(self, _kill, self.process)

    def end(self) -> None:
        """Ask the tree to end, and end it by force soon after; returns at once."""
        threading.Thread(target=self._end, daemon=True, name="end of the registration process").start()

    def kill(self) -> None:
        """End what is left of the tree by force; the leader may have ended before."""
        _kill(self.process)

    def _end(self) -> None:
        if os.name != "nt":  # Windows has no request that a console-less Python would hear
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_SECONDS)
        self.kill()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/T", "/F", "/PID", str(process.pid)],
            check=False,
            capture_output=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
