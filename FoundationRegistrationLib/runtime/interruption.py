"""Ending a command-line run on Ctrl-C, SIGTERM or a closed terminal, within two seconds, leaving nothing behind."""

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

    On a signal `requested` turns True, for the run to end by itself. If it has not after a short while, because
    it is inside a long call into a library, the process removes its private folder and exits at once. Results
    either take their places or do not: a signal that comes before `committing` prevents it, one that comes later
    does not end the process before all is done, and then with exit code 0.
    Python hands signals to the main thread only between its own instructions; the wake-up socket reaches the
    watching thread at any time. The number of the signal stays in it, to be looked at.

    Args:
        to_the_end: nothing of the process matters afterwards, so that it goes on to ignore the signals.
    """

    def __init__(self, to_the_end: bool = False) -> None:
        self._to_the_end = to_the_end
        self._finished = threading.Event()
        self._deciding = threading.Lock()
        self._committed = False
        self._unwanted: tuple[Path, ...] = ()
        self._reader, self._writer = socket.socketpair()

    @property
    def signal_number(self) -> int:
        """The signal that has come, 0 if none has."""
        waiting, _, _ = select.select([self._reader], [], [], 0)
        return self._reader.recv(1, socket.MSG_PEEK)[0] if waiting else 0

    def requested(self) -> bool:
        """Tell whether a signal has come."""
        return self.signal_number != 0

    def remove_on_exit(self, *paths: Path) -> None:
        """Take note of the private folder of unfinished results, and its lock."""
        self._unwanted = paths

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """Hold off the end of the process while results take their places.

        Raises:
            RegistrationCancelledError: a signal has come before.
        """
        with self._deciding:
            if self.requested():
                msg = "The run was stopped before its results took their places; nothing was written."
                raise RegistrationCancelledError(msg)
            yield
            self._committed = True

    def __enter__(self) -> Interruption:
        """Begin to listen."""
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in _signals()}
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="interruption")
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore what was there before, or ignore the signals from here on."""
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
            if self._finished.wait(_GRACE_SECONDS):
                return
            with self._deciding:
                for path in self._unwanted:
                    shutil.rmtree(path, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        path.unlink()
                os._exit(0 if self._committed else 128 + self.signal_number)


def _signals() -> list[signal.Signals]:
    """Return what asks a process to end, but not a hang-up that it was told to survive (`nohup`)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers
