"""Runs one long task at a time and shows its progress: percent, step, remaining time, messages, log, Cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from ..wording.facts import duration

_POLL_MILLISECONDS = 100


class Work(Protocol):
    """A task: a registration or a download."""

    log: tuple[str, ...]

    def poll(self) -> bool:
        """Handle new events; return whether it is still running."""
        ...

    def cancel(self) -> None:
        """Start to cancel it; continue polling until it has ended."""
        ...


class RunControl:
    """Polls the task from a timer, so that the panel never blocks.

    Args:
        ui: the panel's widgets; `logText` has the messages, `runLogText` the log of the task.
        on_changed: called when a task begins or has ended.
    """

    def __init__(self, ui: Any, on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._on_changed = on_changed
        self._work: Work | None = None
        self._held = False
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)

    @property
    def busy(self) -> bool:
        """Whether a task is running, or something else that nothing may be started beside."""
        return self._work is not None or self._held

    def begin(self, work: Work) -> None:
        """Follow a started task."""
        self._work = work
        self._ui.logText.clear()
        self._ui.runLogText.clear()
        self._ui.runLogText.visible = False
        self._ui.progressBar.value = 0
        self._ui.stepNote.text = _("Starting...")
        self._show(True)
        self._timer.start()
        self._on_changed()

    @contextmanager
    def hold(self, step: str) -> Iterator[None]:
        """Be busy within the block with something that handles events, has no progress and cannot be cancelled."""
        self._held = True
        self._ui.progressBar.value = 0
        self._ui.stepNote.text = step
        self._show(True)
        self._on_changed()
        self._ui.applyButton.enabled = False
        try:
            yield
        finally:
            self._held = False
            self._end()

    def cancel(self) -> None:
        """Cancel the task."""
        if self._work is not None:
            self._ui.stepNote.text = _("Cancelling...")
            self._work.cancel()

    def end_now(self) -> None:
        """Cancel the task and wait for its end, at most two seconds: the application closes."""
        work, self._work = self._work, None
        self._timer.stop()
        if work is not None:
            work.cancel()
            while work.poll():
                time.sleep(_POLL_MILLISECONDS / 1000)

    def show_progress(self, step: str, fraction: float, remaining_seconds: float | None) -> None:
        """Show the progress."""
        text = step[:1].upper() + step[1:]
        if remaining_seconds is not None:
            text = _("{step} - about {time} remaining").format(step=text, time=duration(remaining_seconds))
        self._ui.progressBar.value = round(100 * fraction)
        self._ui.stepNote.text = text

    def say(self, line: str) -> None:
        """Show a message below the progress: what is shown nowhere else."""
        self._ui.logText.visible = True
        self._ui.logText.appendPlainText(line)

    def _poll(self) -> None:
        work = self._work
        if work is not None and not work.poll() and self._work is work:
            if work.log:
                self._ui.runLogText.visible = True
                self._ui.runLogText.appendPlainText("\n".join(work.log))
            self._end()

    def _end(self) -> None:
        self._timer.stop()
        self._work = None
        self._show(False)
        self._on_changed()

    def _show(self, running: bool) -> None:
        self._ui.progressBar.visible = running
        self._ui.stepNote.visible = running
        if running:
            self._ui.logText.visible = False
