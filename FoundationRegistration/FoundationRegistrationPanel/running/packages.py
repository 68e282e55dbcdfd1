"""Installing the packages of the engine after the user's consent."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer.util
from FoundationRegistrationBridge.process.dependencies import TORCH, install_torch, missing, read_requirements
from FoundationRegistrationBridge.process.pip import PipProcess
from slicer.i18n import tr as _

from .control import RunControl
from .fetching import Fetching


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
        step = _("installing packages, this takes minutes")
        run.begin(Fetching([(step, functools.partial(PipProcess, packages))], run.show_progress, on_finished))
    return not packages


def ask_to_install(requirements: Sequence[Any]) -> bool:
    """Ask whether these packages may be installed."""
    names = ", ".join(requirement.name for requirement in requirements)
    question = _(
        "These Python packages are needed and will be installed. Those that Slicer has are kept as they are.\n\n"
        "{names}\n\nInstall them now? This takes minutes."
    )
    return bool(slicer.util.confirmOkCancelDisplay(question.format(names=names)))
