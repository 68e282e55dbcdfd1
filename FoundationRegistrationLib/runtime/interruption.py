"""Ending a command-line run on Ctrl-C, SIGTERM or a closed terminal within two seconds, with cleanup."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ..errors import RegistrationCancelledError

_GRACE_SECONDS = 1.0
_END = b"\0"  # no signal has this number


class Interruption:
    """Listens for SIGINT, SIGTERM and SIGHUP while the context is open.

    On a signal `requested` becomes True, so that the run can end by itself. If it does not do so soon, because it is
    inside a long library call, the process removes its private folder and exits. Results are written completely or
    not at all: a signal before `committing` prevents it; after a later one the process finishes with exit code 0.
    Python delivers signals to the main thread only between bytecode instructions; the wake-up socket reaches the
    watching thread at any time. The signal number stays in the socket, to be peeked at.

    Args:
        to_the_end: the process ends after the context, so it keeps ignoring the signals.

    Attributes:
        grace_seconds: after a signal the process is ended by force if it has not ended by itself.
    """

    def __init__(self, to_the_end: bool = False) -> None:
        self.grace_seconds = _GRACE_SECONDS
        self._to_the_end = to_the_end
        self._finished = threading.Event()
        self._deciding = threading.Lock()
        self._committed = False
        self._unwanted: tuple[Path, ...] = ()
        self._reader, self._writer = socket.socketpair()

    @property
    def signal_number(self) -> int:
        """The signal received, 0 if none."""
        waiting, _, _ = select.select([self._reader], [], [], 0)
        return self._reader.recv(1, socket.MSG_PEEK)[0] if waiting else 0

    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.signal_number != 0

    def remove_on_exit(self, *paths: Path) -> None:
        """Register the private folder of unfinished results and its lock."""
        self._unwanted = paths

    @contextlib.contextmanager
    def committing(self, is_last: bool = True) -> Iterator[None]:
        """Delay the end of the process while results are moved into place.

        Args:
            is_last: these results complete the run; otherwise a later signal still stops it.

        Raises:
            RegistrationCancelledError: a signal was received before.
        """
        with self._deciding:
            if self.requested():
                msg = "The run was stopped before its results were complete; nothing was written."
                raise RegistrationCancelledError(msg)
            yield
            self._committed = is_last

    def __enter__(self) -> Interruption:
        """Start listening."""
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in _signals()}
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="interruption")
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous handlers, or ignore the signals from now on."""
        self._finished.set()
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_IGN if self._to_the_end else handler)
        signal.set_wakeup_fd(self._wakeup)
        with contextlib.suppress(OSError):
            self._writer.send(_END)
        self._watcher.join(_GRACE_SECONDS)
        self._writer.close()
        self._reader.close()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.recv(1, socket.MSG_PEEK)
            if self._finished.wait(self.grace_seconds):
                return
            with self._deciding:
                for path in self._unwanted:
                    shutil.rmtree(path, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        path.unlink()
                os._exit(0 if self._committed else 128 + self.signal_number)


class OneOfMany:
    """An interruption as a guard for results that do not complete the run: a signal after them still stops it."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def requested(self) -> bool:
        """Whether a signal was received."""
        return self._interruption.requested()

    def remove_on_exit(self, *paths: Path) -> None:
        """Register what to remove if the process ends before a commit."""
        self._interruption.remove_on_exit(*paths)

    def committing(self) -> contextlib.AbstractContextManager[None]:
        """Delay the end of the process while results are moved into place."""
        return self._interruption.committing(is_last=False)


def _signals() -> list[signal.Signals]:
    """Return the termination signals, without a hang-up that the process was told to ignore (`nohup`)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers
