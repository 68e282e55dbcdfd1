"""Installing the packages of the engine after the user's consent, as a task that is followed and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer.util
from FoundationRegistrationBridge.process.dependencies import TORCH, install_torch, missing, read_requirements
from FoundationRegistrationBridge.process.pip import PipProcess
from slicer.i18n import tr as _

from .control import RunControl


def packages_ready(requirements: Path, run: RunControl, on_finished: Callable[[str | None, bool], None]) -> bool:
    """Return whether the packages of the engine are there; else install them as a task, with the user's consent.

    Args:
        requirements: file that lists them, besides torch.
        run: follows the installation.
        on_finished: called once it has ended, with an error message or None, and whether it was cancelled.

    Raises:
        BridgeError: torch is missing and cannot be installed, or the installation cannot be started.
    """
    if missing([TORCH]):
        with run.hold(_("Installing PyTorch, this takes minutes")):
            install_torch()
    packages = missing(read_requirements(requirements))
    if packages and ask_to_install(packages):
        run.begin(PackagesInstall(packages, run.show_progress, on_finished))
    return not packages


def ask_to_install(requirements: Sequence[Any]) -> bool:
    """Ask whether these packages may be installed."""
    names = ", ".join(requirement.name for requirement in requirements)
    question = _(
        "These Python packages are needed and will be installed. Those that Slicer has are kept as they are.\n\n"
        "{names}\n\nInstall them now? This takes minutes."
    )
    return bool(slicer.util.confirmOkCancelDisplay(question.format(names=names)))


class PackagesInstall:
    """Installs packages; polled from a timer, like a registration.

    Args:
        requirements: packages to install, with the user's consent.
        on_progress: called with what is done, its completed fraction, and None for the remaining seconds.
        on_finished: called once with an error message or None, and whether it was cancelled.

    Raises:
        BridgeError: it cannot be started.
    """

    def __init__(
        self,
        requirements: Sequence[Any],
        on_progress: Callable[[str, float, float | None], None],
        on_finished: Callable[[str | None, bool], None],
    ) -> None:
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._pip = PipProcess(requirements)

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of pip."""
        return self._pip.log

    def poll(self) -> bool:
        """Show the progress; return whether it is still running."""
        self._on_progress(_("installing packages, this takes minutes"), self._pip.fraction, None)
        if self._pip.running():
            return True
        cancelled = self._pip.cancelled
        self._on_finished(None if cancelled else self._pip.failure(), cancelled)
        return False

    def cancel(self) -> None:
        """Cancel the installation; what is installed by then stays."""
        self._pip.cancel()
