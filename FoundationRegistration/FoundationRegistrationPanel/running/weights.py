"""Downloading the weights of an encoder after the user's consent, in a separate process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import slicer.util
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.process.worker import RegistrationWorker, engine_command
from slicer.i18n import tr as _

from ..wording.facts import download_size
from .control import RunControl
from .fetching import Fetching


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
                "then choose its folder under Method, Weights folder."
            )
            raise BridgeError(msg)
    lines = [
        f"{entry.title}: {download_size(entry)}, {entry.license} ({entry.license_url})\n{entry.url}"
        for entry in entries
    ]
    question = _("The encoder needs weights that are not on this machine. Download them and accept their licence?")
    return bool(slicer.util.confirmOkCancelDisplay("\n\n".join([question, *lines])))


def fetch_weights(entries: Sequence[Any], run: RunControl, on_finished: Callable[[str | None, bool], None]) -> None:
    """Download weights, one after the other, as a task.

    Args:
        entries: of the engine's catalogue of weights, with the user's consent.
        run: follows the download.
        on_finished: called once it has ended, with an error message or None, and whether it was cancelled.

    Raises:
        BridgeError: the download cannot be started.
    """
    steps = [_("downloading {title}").format(title=entry.title) for entry in entries]
    downloads = [functools.partial(_download, entry) for entry in entries]
    run.begin(Fetching(list(zip(steps, downloads, strict=True)), run.show_progress, on_finished))


def _download(entry: Any) -> RegistrationWorker:
    arguments = ["weights", "download", entry.name, "--progress", "json"]
    if entry.needs_consent:
        arguments.append("--accept-license")
    return RegistrationWorker(engine_command(arguments))
