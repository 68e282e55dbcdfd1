"""Fetching what a registration needs and this machine lacks, as a task that is followed and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from FoundationRegistrationBridge.process.pip import PipProcess
from FoundationRegistrationBridge.process.worker import RegistrationWorker


class Fetching:
    """Runs processes in sequence; polled from a timer, like a registration.

    Args:
        starts: what each process does, as it is shown, and what starts it.
        on_progress: called with what is done, its completed fraction, and None for the remaining seconds.
        on_finished: called once with an error message or None, and whether it was cancelled.

    Raises:
        BridgeError: the first process cannot be started.
    """

    def __init__(
        self,
        starts: Sequence[tuple[str, Callable[[], PipProcess | RegistrationWorker]]],
        on_progress: Callable[[str, float, float | None], None],
        on_finished: Callable[[str | None, bool], None],
    ) -> None:
        self._waiting = list(starts)
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._start_next()

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that the process wrote."""
        return self._process.log

    def poll(self) -> bool:
        """Show the progress; return whether a process is still running."""
        self._on_progress(self._step, self._process.fraction, None)
        if self._process.running():
            return True
        cancelled = self._process.cancelled
        error = None if cancelled else self._process.failure()
        if error is None and not cancelled and self._waiting:
            self._start_next()
            return True
        self._on_finished(error, cancelled)
        return False

    def cancel(self) -> None:
        """Cancel; what was installed by then stays, and received data are kept for the next try."""
        self._process.cancel()

    def _start_next(self) -> None:
        self._step, start = self._waiting.pop(0)
        self._process = start()
