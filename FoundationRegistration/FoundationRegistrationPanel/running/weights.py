"""Downloading the weights of an encoder after the user's consent, in a separate process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer.util
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.process.worker import RegistrationWorker, engine_command
from slicer.i18n import tr as _


def ask_consent(entries: Sequence[Any]) -> bool:
    """Ask whether weights may be downloaded under their licences, with their size, licence and source.

    Args:
        entries: of the engine's catalogue of weights.

    Raises:
        BridgeError: a file can only be downloaded by hand; the message says where.
    """
    for entry in entries:
        if entry.access != "open":
            msg = (
                f"'{entry.filename}' must be downloaded by hand from {entry.url}; "
                "then choose its folder under Advanced, Weights folder."
            )
            raise BridgeError(msg)
    lines = [
        f"{entry.title}: {_size(entry)}, {entry.license} ({entry.license_url})\n{entry.url}" for entry in entries
    ]
    question = _("The encoder needs weights that are not on this machine. Download them and accept their licence?")
    return bool(slicer.util.confirmOkCancelDisplay("\n\n".join([question, *lines])))


class WeightsFetch:
    """Downloads weights in sequence; polled from a timer, like a registration.

    Args:
        entries: of the engine's catalogue of weights, with the user's consent.
        on_progress: called with the name of the download, its completed fraction, and the remaining seconds or None.
        on_finished: called once with an error message or None, and whether it was cancelled.

    Raises:
        BridgeError: the download cannot be started.
    """

    def __init__(
        self,
        entries: Sequence[Any],
        on_progress: Callable[[str, float, float | None], None],
        on_finished: Callable[[str | None, bool], None],
    ) -> None:
        self._waiting = list(entries)
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._start_next()

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that the download wrote."""
        return self._worker.log

    def poll(self) -> bool:
        """Handle new events; return whether a download is still running."""
        progress = self._worker.progress
        self._on_progress(_("downloading {title}").format(title=self._title), progress.fraction, None)
        if self._worker.running():
            return True
        error = None if self._worker.cancelled else self._worker.failure()
        if error is None and not self._worker.cancelled and self._waiting:
            self._start_next()
            return True
        self._on_finished(error, self._worker.cancelled)
        return False

    def cancel(self) -> None:
        """Cancel the download; received data are kept for the next try."""
        self._worker.cancel()

    def _start_next(self) -> None:
        entry = self._waiting.pop(0)
        self._title = entry.title
        arguments = ["weights", "download", entry.name, "--progress", "json"]
        if entry.needs_consent:
            arguments.append("--accept-license")
        self._worker = RegistrationWorker(engine_command(arguments))


def _size(entry: Any) -> str:
    return f"{entry.size_bytes / 1e6:.0f} MB" if entry.size_bytes else _("size unknown")
