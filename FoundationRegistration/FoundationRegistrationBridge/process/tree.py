"""A process with its child processes, which can be ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# The engine ends itself within a second on request, so that two seconds suffice even on a busy machine.
_GRACE_SECONDS = 1.4
_POLL_SECONDS = 0.02
_RUNS, _ENDED, _REAPED = "runs", "ended", "reaped"


class ProcessTree:
    """Start a command in its own process group, with pipes for its output.

    Args:
        command: program and arguments.
        environment: of the new process.
        folder: working directory.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        flags = 0
        if os.name == "nt":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name != "nt",
            creationflags=flags,
        )
        self.outputs: tuple[IO[bytes] | None, IO[bytes] | None] = (process.stdout, process.stderr)
        self._group = _Group(process)
        # Also when the application exits in the middle of a run.
        weakref.finalize(self, self._group.kill)

    @property
    def pid(self) -> int:
        """Process id of the leader."""
        return self._group.process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the leader as in `subprocess`; None while it runs."""
        return self._group.process.returncode

    def running(self) -> bool:
        """Whether the leader is running; once it is not, no child process is left."""
        return self._group.running()

    def end(self) -> None:
        """Request the tree to end, and kill it soon after; returns at once."""
        threading.Thread(target=self._group.end, daemon=True, name="end of the registration process").start()


class _Group:
    """The processes of one group.

    The system may reuse the id of a leader once it is reaped. So it is reaped last, after the rest of the group was
    ended, and no signal is sent to this id afterwards.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lock = threading.Lock()

    def running(self) -> bool:
        with self._lock:
            if self.process.returncode is None and _state(self.process) != _RUNS:
                self._end_by_force()
            return self.process.returncode is None

    def end(self) -> None:
        if os.name != "nt":  # Windows has no such request for a Python without console
            with self._lock:
                self._send(signal.SIGTERM)
            until = time.monotonic() + _GRACE_SECONDS
            while self.running() and time.monotonic() < until:
                time.sleep(_POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        with self._lock:
            self._end_by_force()

    def _end_by_force(self) -> None:
        if self.process.returncode is not None:
            return
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(self.process.pid)],
                check=False,
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        else:
            self._send(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)

    def _send(self, number: signal.Signals) -> None:
        if self.process.returncode is None and _state(self.process) != _REAPED:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def _state(process: subprocess.Popen[bytes]) -> str:
    """Return the state of a process without reaping it."""
    if os.name == "nt":  # where an id is reserved as long as the process object exists
        return _RUNS if process.poll() is None else _REAPED
    if hasattr(os, "waitid"):
        try:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # another part of the application has reaped it
            return _REAPED
        return _ENDED if ended else _RUNS
    try:
        import psutil  # macOS before Python 3.13
    except ImportError:  # it is just being installed
        return _RUNS if process.poll() is None else _REAPED
    try:
        ended = psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return _REAPED
    return _ENDED if ended else _RUNS
