"""One run of the engine in its own process: nodes to files, progress, cancel, and results to nodes on success."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import slicer

from ..errors import BridgeError, CancelledError
from .private_folder import PrivateFolder
from .worker import RegistrationWorker, engine_command, let_the_application_live

_LOGGER = logging.getLogger(__name__)

Outputs = TypeVar("Outputs")
ProgressCallback = Callable[[str, float, float | None], None]
FinishedCallback = Callable[[Any, str | None, bool], None]


class EngineJob(ABC, Generic[Outputs]):
    """Starts, follows and ends one run of the engine. The scene changes only on success.

    Args:
        scene: where the nodes are; `slicer.mrmlScene` if None.
        on_progress: called with the step, the completed fraction (0 to 1), and the remaining seconds or None.
        on_finished: called once with outputs, error message, and whether it was cancelled.
        expected_seconds: of each step in earlier runs, for the remaining time; see `TimeToGo`.
        python: the Python that runs the engine; Slicer's own if None.
    """

    def __init__(
        self,
        scene: Any = None,
        *,
        on_progress: ProgressCallback | None = None,
        on_finished: FinishedCallback | None = None,
        expected_seconds: Mapping[str, float] | None = None,
        python: Path | None = None,
    ) -> None:
        self.outputs: Outputs | None = None
        self.error: str | None = None
        self._scene = scene or slicer.mrmlScene
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._expected_seconds = expected_seconds
        self._python = python
        self._worker: RegistrationWorker | None = None
        self._lost = ""
        self._finished = False

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that the engine wrote."""
        return self._worker.log if self._worker else ()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called in time."""
        return self._finished and self.outputs is None and self.error is None

    def start(self) -> None:
        """Write the nodes to files and start the engine; does not wait for it.

        Raises:
            BridgeError: the nodes or settings cannot be used; the message says what to do.
        """
        self._prepare()
        self._needed = [(role, node.GetID(), node) for role, node in self._needed_nodes()]
        self._folder = PrivateFolder()
        try:
            arguments = self._export(self._folder.path)
            self._worker = self._start_worker(engine_command(arguments, self._python))
        except BaseException:
            self._folder.remove()
            raise

    def poll(self) -> bool:
        """Handle new events, from a timer or a loop; return whether the job is still running."""
        if self._worker is None or self._finished:
            return False
        if not self._lost:
            self._lost = self._missing_node()
            if self._lost:
                self._worker.cancel()
        for news in self._worker.new_progress():
            if self._on_progress and not self._worker.cancelled:
                self._on_progress(news.step, news.fraction, news.remaining_seconds)
        if self._worker.running():
            return True
        self._finish(self._worker)
        return False

    def cancel(self) -> None:
        """End the engine and its child processes within two seconds; returns at once. Continue polling to the end."""
        if self._worker is not None and not self._finished:
            self._worker.cancel()

    def wait(self) -> Outputs:
        """Start if needed, and return when all is done; the application stays responsive.

        Raises:
            CancelledError: `cancel` was called.
            BridgeError: it failed; the message says why.
        """
        if self._worker is None:
            self.start()
        try:
            while self.poll():
                let_the_application_live()
        except BaseException:  # Ctrl-C in the console, or an error of a callback
            self.cancel()
            while self.poll():
                let_the_application_live()
            raise
        if self.outputs is None:
            if self.error is None:
                msg = "The registration was cancelled; the scene is unchanged."
                raise CancelledError(msg)
            raise BridgeError(self.error)
        return self.outputs

    @abstractmethod
    def _prepare(self) -> None:
        """Check the inputs, and record the state that the result will be made from."""

    @abstractmethod
    def _needed_nodes(self) -> list[tuple[str, Any]]:
        """Return role and node of all nodes that must still exist at the end."""

    @abstractmethod
    def _export(self, folder: Path) -> list[str | Path]:
        """Write the inputs into a folder; return the command line arguments of the engine."""

    def _start_worker(self, command: Sequence[str]) -> RegistrationWorker:
        """Start the engine."""
        return RegistrationWorker(command, self._expected_seconds)

    @abstractmethod
    def _take_over(self, folder: Path) -> Outputs:
        """Add the results in a folder to the scene, all or none."""

    def _finish(self, worker: RegistrationWorker) -> None:
        """Add the results to the scene, or set the error. Called once, when the engine has ended."""
        self._finished = True
        try:
            self.error = self._lost or (None if worker.cancelled else worker.failure())
            if self.error is None and not worker.cancelled:
                self.outputs = self._take_over(self._folder.path)
        except BridgeError as error:
            self.error = str(error)
        except Exception as error:  # whatever it is, the caller is told, and does not wait for ever
            _LOGGER.exception("The results could not be loaded")
            self.error = f"The results could not be loaded ({error}); run the registration again."
        finally:
            self._folder.remove()
        if self._on_finished:
            self._on_finished(self.outputs, self.error, self.cancelled)

    def _missing_node(self) -> str:
        for role, node_id, node in self._needed:
            if self._scene.GetNodeByID(node_id) is not node:
                return (
                    f"The {role} '{node.GetName()}' was removed during the registration; nothing was added to the "
                    "scene."
                )
        return ""
