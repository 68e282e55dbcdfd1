"""Ending a command-line run on Ctrl-C or SIGTERM, within two seconds and without leaving anything behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType

_GRACE_SECONDS = 1.0
_END = b"\0"  # no signal has this number


class Interruption:
    """Listens for SIGINT and SIGTERM while the context is open.

    On a signal `requested` turns True, for the run to end by itself. If it has not after a short while, because
    it is inside a long call into a library, the process removes the registered folder and exits at once.
    Python hands signals to the main thread only between its own instructions; the wake-up socket reaches the
    watching thread at any time.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._finished = threading.Event()
        self._folder: Path | None = None
        self._reader, self._writer = socket.socketpair()
        self.signal_number = 0

    def requested(self) -> bool:
        """Tell whether a signal has come."""
        return self._requested.is_set()

    def remove_on_exit(self, folder: Path) -> None:
        """Register the private folder of unfinished results."""
        self._folder = folder

    def __enter__(self) -> Interruption:
        """Begin to listen."""
        self._writer.setblocking(False)
        self._handlers = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="interruption")
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore what was there before."""
        self._finished.set()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):
            self._writer.send(_END)
        self._watcher.join(_GRACE_SECONDS)
        self._writer.close()
        self._reader.close()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            received = self._reader.recv(1)
            if received == _END:
                return
            self.signal_number = received[0]
            self._requested.set()
            if not self._finished.wait(_GRACE_SECONDS):
                if self._folder is not None:
                    shutil.rmtree(self._folder, ignore_errors=True)
                os._exit(128 + self.signal_number)
