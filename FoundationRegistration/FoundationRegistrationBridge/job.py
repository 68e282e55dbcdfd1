"""One registration: nodes in, the engine in its own process, nodes out, all of them or none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from .errors import BridgeError, CancelledError
from .files_to_nodes import JobOutputs, take_over
from .job_inputs import JobInputs, check_inputs
from .nodes_to_files import export_inputs
from .placement import Placement
from .private_folder import PrivateFolder
from .spaces import chain
from .stored_files import with_messages
from .worker import RegistrationWorker, engine_command, let_the_application_live

__all__ = ["JobInputs", "JobOutputs", "RegistrationJob"]

_LOGGER = logging.getLogger(__name__)

ProgressCallback = Callable[[str, float, float | None], None]
FinishedCallback = Callable[[JobOutputs | None, str | None, bool], None]


class RegistrationJob:
    """Starts, follows and ends one registration. The scene changes only on success.

    Args:
        inputs: what to register.
        scene: where the nodes are; `slicer.mrmlScene` if None.
        on_progress: called with the step, the completed fraction (0 to 1), and the remaining seconds or None.
        on_finished: called once with outputs, error message, and whether it was cancelled.
        python: the Python that runs the engine; Slicer's own if None.
    """

    def __init__(
        self,
        inputs: JobInputs,
        scene: Any = None,
        *,
        on_progress: ProgressCallback | None = None,
        on_finished: FinishedCallback | None = None,
        python: Path | None = None,
    ) -> None:
        self.inputs = inputs
        self.outputs: JobOutputs | None = None
        self.error: str | None = None
        self._scene = scene or slicer.mrmlScene
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._python = python
        self._worker: RegistrationWorker | None = None
        self._messages: list[str] = []
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
        check_inputs(self.inputs)
        self._placement = Placement.of(self.inputs)
        self._needed = self._needed_nodes()
        self._folder = PrivateFolder()
        try:
            arguments = export_inputs(self.inputs, self._folder.path, self._messages)
            self._worker = RegistrationWorker(engine_command(arguments, self._python))
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

    def wait(self) -> JobOutputs:
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

    def _finish(self, worker: RegistrationWorker) -> None:
        """Add the results to the scene, or set the error. Called once, when the engine has ended."""
        self._finished = True
        try:
            self.error = self._lost or (None if worker.cancelled else worker.failure())
            if self.error is None and not worker.cancelled:
                outputs = take_over(self.inputs, self._placement, self._scene, self._folder.path)
                self.outputs = with_messages(outputs, self._messages)
        except BridgeError as error:
            self.error = str(error)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            _LOGGER.exception("The results could not be loaded")
            self.error = f"The results could not be loaded ({error}); run the registration again."
        finally:
            self._folder.remove()
        if self._on_finished:
            self._on_finished(self.outputs, self.error, self.cancelled)

    def _needed_nodes(self) -> list[tuple[str, str, Any]]:
        """Return role, id and node of all nodes that must still exist at the end."""
        inputs = self.inputs
        parents = [*chain(inputs.fixed.GetParentTransformNode()), *chain(self._placement.moving.parent)]
        roles = [("fixed volume", inputs.fixed), ("moving volume", inputs.moving)]
        roles += [("parent transform", parent) for parent in parents]
        roles += [("output", node) for node in (inputs.output_transform, inputs.output_volume) if node is not None]
        return [(role, node.GetID(), node) for role, node in roles]

    def _missing_node(self) -> str:
        for role, node_id, node in self._needed:
            if self._scene.GetNodeByID(node_id) is not node:
                return (
                    f"The {role} '{node.GetName()}' was removed during the registration; nothing was added to the "
                    "scene."
                )
        return ""
