"""The engine in its own process: start, progress, end and error messages."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import slicer

from ..errors import BridgeError
from ..library import PACKAGE, library_folder, python_executable, worker_environment
from .time_to_go import STARTING, TimeToGo
from .tree import ProcessTree

_LOG_LINES = 200
_LONGEST_LINE = 2000
_READERS_SECONDS = 1.0
_POLL_SECONDS = 0.05
_REMIND_SECONDS = 1.0
_OUT_OF_MEMORY = "was killed by the system, most likely for lack of memory; use a larger working spacing"
_CRASHED = "crashed; try the device 'cpu', or a larger working spacing"
_ACCESS_VIOLATION = 0xC0000005
_ENDINGS = {
    -signal.SIGSEGV: _CRASHED,
    -signal.SIGABRT: _CRASHED,
    -signal.SIGTERM: "was terminated externally; start it again",
    _ACCESS_VIOLATION: _CRASHED,
    -9: _OUT_OF_MEMORY,  # SIGKILL, not on Windows
}


@dataclass(frozen=True)
class WorkerProgress:
    """Progress of the engine: step, completed fraction of the run, remaining seconds if known."""

    step: str
    fraction: float
    remaining_seconds: float | None


def let_the_application_live() -> None:
    """Wait briefly while Slicer, if running, processes events."""
    getattr(getattr(slicer, "app", None), "processEvents", lambda: None)()
    time.sleep(_POLL_SECONDS)


def engine_command(arguments: Sequence[str | Path], python: Path | None = None) -> list[str]:
    """Return the command line of the engine with the given arguments."""
    return [str(python or python_executable()), "-m", PACKAGE, *map(str, arguments)]


class RegistrationWorker:
    """Runs one command that reports progress as JSON lines, like `register --progress json`.

    Poll it from a timer or a loop. Threads read its pipes, so that it never blocks.

    Args:
        command: see `engine_command`.
        expected_seconds: of each step, see `TimeToGo`.

    Raises:
        BridgeError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], expected_seconds: Mapping[str, float] | None = None) -> None:
        self._time = TimeToGo(expected_seconds or {})
        self._time.start(time.monotonic())
        self.progress = WorkerProgress(STARTING, 0.0, None)
        self._unseen = [self.progress]
        self._told = time.monotonic()
        self._taking = threading.Lock()
        self.cancelled = False
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._reported_error = ""
        try:
            # Python imports from its working directory first: use the engine's folder, not the current one.
            self._tree = ProcessTree(command, worker_environment(), library_folder())
        except OSError as error:
            msg = f"'{command[0]}' cannot be started ({error.strerror}); reinstall 3D Slicer or the extension."
            raise BridgeError(msg) from error
        output, log = self._tree.outputs
        self._readers = [
            threading.Thread(target=self._read, args=arguments, daemon=True, name="registration output")
            for arguments in ((output, self._hear), (log, self._log.append))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._tree.pid

    @property
    def fraction(self) -> float:
        """The completed fraction of the run, 0 to 1."""
        return self.progress.fraction

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of output that are not progress."""
        return tuple(self._log)

    def new_progress(self) -> list[WorkerProgress]:
        """Return the progress of each step reported since the last call; without any, each second what is left."""
        now = time.monotonic()
        with self._taking:
            if not self._unseen and now - self._told >= _REMIND_SECONDS:
                self.progress = replace(self.progress, remaining_seconds=self._time.remaining(now))
                self._unseen = [self.progress]
            if self._unseen:
                self._told = now
            unseen, self._unseen = self._unseen, []
        return unseen

    def running(self) -> bool:
        """Whether the engine is running; once it is not, no child process is left."""
        if self._tree.running():
            return True
        for reader in self._readers:
            reader.join(_READERS_SECONDS)
        self._readers = []
        return False

    def cancel(self) -> None:
        """End the engine and its child processes within two seconds; returns at once."""
        self.cancelled = True
        self._tree.end()

    def failure(self) -> str | None:
        """Return why the ended engine failed; None if it succeeded."""
        code = self._tree.exit_code
        if code == 0:
            return None
        if self._reported_error:
            return self._reported_error
        ending = _ENDINGS.get(code, f"ended with an error (code {code})")
        last = self._log[-1].strip() if self._log else ""
        return f"The registration process {ending}." + (f" Its last output: {last}" if last else "")

    def _read(self, stream: IO[bytes], take: Any) -> None:
        with contextlib.suppress(ValueError), stream:  # closed at interpreter exit
            while line := stream.readline(_LONGEST_LINE):
                text = line.decode("utf-8", errors="replace").rstrip()
                if text:
                    take(text)

    def _hear(self, line: str) -> None:
        """Handle a line of standard output: an event, or other text for the log."""
        try:
            event = json.loads(line)
            if event["event"] == "progress":
                self._advance(str(event["step"]), float(event["fraction"]), float(event.get("of_step", 0.0)))
            elif event["event"] == "error":
                self._reported_error = str(event["message"])
        except (ValueError, TypeError, KeyError):
            self._log.append(line)

    def _advance(self, step: str, fraction: float, of_step: float) -> None:
        now = time.monotonic()
        with self._taking:
            self._time.report(step, fraction, of_step, now)
            self.progress = WorkerProgress(step, fraction, self._time.remaining(now))
            if self._unseen and self._unseen[-1].step == step:
                del self._unseen[-1]
            self._unseen.append(self.progress)
