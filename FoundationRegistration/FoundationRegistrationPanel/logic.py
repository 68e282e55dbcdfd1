"""What panel, Python console and scripts do: register, transform nodes, measure quality, run tables and series."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import slicer
from FoundationRegistrationBridge.cohort.batch import BatchProgress, BatchResult, register_batch
from FoundationRegistrationBridge.cohort.job import full_path
from FoundationRegistrationBridge.cohort.results import LoadedPair, load_pair
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.directions import check_followers, transform_nodes
from FoundationRegistrationBridge.quality.table import quality_table
from FoundationRegistrationBridge.run.inputs import JobInputs
from FoundationRegistrationBridge.run.job import RegistrationJob
from FoundationRegistrationBridge.run.stored_files import file_messages_of_pair, with_messages
from FoundationRegistrationBridge.scene.attachment_watch import watch_attachments
from FoundationRegistrationBridge.series.curves import plot_curves
from FoundationRegistrationBridge.series.job import SequenceInputs, SequenceJob
from FoundationRegistrationBridge.series.subtraction import subtraction_volume
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .parameters import FoundationRegistrationParameterNode

_LOGGER = logging.getLogger(__name__)


class FoundationRegistrationLogic(ScriptedLoadableModuleLogic):
    """Registration, transforming nodes and quality, for the panel, the Python console and scripts."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.undo: list[Any] = []
        """Undo steps of `transformNodes`, the last call at the end."""
        watch_attachments(slicer.mrmlScene)

    def getParameterNode(self) -> FoundationRegistrationParameterNode:
        """Return the typed parameter node of the scene, created if needed."""
        return FoundationRegistrationParameterNode(super().getParameterNode())

    def register(
        self,
        fixedNode: Any,
        movingNode: Any,
        preset: str = "default",
        *,
        fixedMask: Any = None,
        movingMask: Any = None,
        fixedLesion: Any = None,
        movingLesion: Any = None,
        fixedStructures: Any = None,
        movingStructures: Any = None,
        fixedPoints: Any = None,
        movingPoints: Any = None,
        region: Any = None,
        initialTransform: Any = None,
        outputTransform: Any = None,
        outputVolume: Any = None,
        createVolume: bool = False,
        featurePreview: bool = False,
        maps: bool = False,
        follow: Sequence[Any] = (),
        followMode: str = "resample",
        waitForCompletion: bool = True,
        onProgress: Callable[[str, float, float | None], None] | None = None,
        onFinished: Callable[[Any, str | None, bool], None] | None = None,
        expectedSeconds: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> Any:
        """Register a moving volume to a fixed one, in a separate process.

        Args:
            fixedNode: volume node whose space the result is in.
            movingNode: volume node to register to it; parent transforms of both are taken into account.
            preset: name of a preset of the engine.
            fixedMask: region to register: a segmentation node, (segmentation node, segment ID) or a labelmap node.
            movingMask: the same for the moving volume.
            fixedLesion: lesions that keep their volume, given in the same way; each connected part moves rigidly.
            movingLesion: the same for the moving volume.
            fixedStructures: segmentation or labelmap node whose structures drive the registration; those of the same
                name in `movingStructures` correspond. What drives says nothing about accuracy.
            movingStructures: the same for the moving volume.
            fixedPoints: point list node that drives the registration, with points of the same name in `movingPoints`.
            movingPoints: the same for the moving volume.
            region: ROI node in the fixed volume: only there is the moving volume deformed.
            initialTransform: initial transform node, in the sense of a parent of the moving volume.
            outputTransform: transform node to overwrite; a new one if None.
            outputVolume: volume node to overwrite with the registered volume.
            createVolume: create a new node for the registered volume.
            featurePreview: add the features of both volumes as colour volumes.
            maps: add the Jacobian and the expected error (mm, NaN where unknown) as volumes.
            follow: nodes that belong to the moving volume, to be transformed with it.
            followMode: "resample" (new nodes in the fixed space) or "attach" (put under the transform).
            waitForCompletion: wait until all is done; otherwise poll the returned job from a timer.
            onProgress: called with the step, the completed fraction (0 to 1) and the remaining seconds or None.
            onFinished: called once with the outputs or None, an error message or None, and whether it was cancelled.
            expectedSeconds: of each step in earlier runs, for the remaining time; see `TimeToGo`.
            **settings: single settings of the engine, which override the preset.

        Returns:
            The transform node; put what belongs to the moving volume under it. Without waiting, the
            `RegistrationJob`.

        Raises:
            BridgeError: nodes or settings cannot be used, or the registration failed; the scene is unchanged. Or the
                registration succeeded but a node could not be transformed; the message names the new transform node.
        """
        inputs = JobInputs(
            fixed=fixedNode,
            moving=movingNode,
            fixed_mask=fixedMask,
            moving_mask=movingMask,
            fixed_lesion=fixedLesion,
            moving_lesion=movingLesion,
            fixed_structures=fixedStructures,
            moving_structures=movingStructures,
            fixed_points=fixedPoints,
            moving_points=movingPoints,
            region=region,
            initial_transform=initialTransform,
            settings={"preset": preset, **settings},
            output_transform=outputTransform,
            output_volume=outputVolume,
            create_volume=createVolume and outputVolume is None,
            feature_preview=featurePreview,
            maps=maps,
        )

        follow = list(follow)
        check_followers(follow, followMode)
        cautions = file_messages_of_pair(fixedNode, movingNode)
        notFollowed: list[str] = []

        def finished(outputs: Any, error: str | None, cancelled: bool) -> None:
            try:
                if outputs is not None:
                    outputs = with_messages(outputs, cautions)
                    notFollowed.extend(self._follow(follow, outputs.transform_node, followMode))
                    if follow and not notFollowed:
                        messages = (*outputs.messages, *self.undo[-1].notes)
                        outputs = dataclasses.replace(outputs, messages=messages)
            finally:  # the registration is done, even if transforming nodes failed
                if onFinished is not None:
                    onFinished(outputs, error or next(iter(notFollowed), None), cancelled)

        job = RegistrationJob(inputs, on_progress=onProgress, on_finished=finished, expected_seconds=expectedSeconds)
        if not waitForCompletion:
            job.start()
            return job
        outputs = job.wait()
        transformNode = outputs.transform_node
        verdict = outputs.record["verdict"]
        for message in (*verdict["reasons"], *outputs.record["messages"]):
            _LOGGER.warning(message)
        if notFollowed:
            raise BridgeError(notFollowed[0])
        return transformNode

    def registerBatch(
        self,
        pairs: Any,
        preset: str = "default",
        *,
        outputFolder: str | os.PathLike[str] | None = None,
        onProgress: BatchProgress | None = None,
        **settings: Any,
    ) -> list[BatchResult]:
        """Register many pairs; a failure does not stop the others.

        Args:
            pairs: (fixed, moving) volume nodes, or a table of files as `cohort` takes it.
            preset: of the engine.
            outputFolder: for results and their table; see `FoundationRegistrationBridge.cohort.batch.register_batch`.
            onProgress: called with the pair's name, its number from 1, the number of pairs, the step and the
                completed fraction of the pair.
            **settings: single settings of the engine, which override the preset.

        Returns:
            One result per pair.

        Raises:
            BridgeError: the table or a setting cannot be used.
        """
        return register_batch(pairs, preset, output_folder=outputFolder, on_progress=onProgress, **settings)

    def loadPair(self, folder: str | os.PathLike[str], name: str) -> LoadedPair:
        """Add a pair of a finished batch, or of the command `cohort`, to the scene as if it was registered here.

        Args:
            folder: of the results, with `pairs.csv`.
            name: of the pair.

        Returns:
            Its nodes; see `FoundationRegistrationBridge.cohort.results.LoadedPair`.

        Raises:
            BridgeError: there is no such pair, it is not done, or a file is gone or has changed; nothing was added.
        """
        return load_pair(full_path(folder), name)

    def registerSequence(
        self,
        sequence: Any,
        referenceFrame: int | str = 0,
        preset: str = "dce",
        *,
        mask: Any = None,
        waitForCompletion: bool = True,
        onProgress: Callable[[str, float, float | None], None] | None = None,
        onFinished: Callable[[Any, str | None, bool], None] | None = None,
        **settings: Any,
    ) -> Any:
        """Register all time points of a sequence to one of them, in a separate process.

        Args:
            sequence: sequence node of volumes, its browser node, or a volume that its browser shows, whose parent
                transforms are taken into account.
            referenceFrame: number of the time point that the others are registered to, from 0, or "mean".
            preset: name of a preset of the engine.
            mask: region of the reference to register: a segmentation node, (segmentation node, segment ID) or a
                labelmap node.
            waitForCompletion: wait until all is done; otherwise poll the returned job from a timer.
            onProgress: called with the step, the completed fraction (0 to 1) and the remaining seconds or None.
            onFinished: called once with the outputs or None, an error message or None, and whether it was cancelled.
            **settings: single settings of the engine, which override the preset.

        Returns:
            The `SequenceOutputs`: the new sequences of registered volumes and of transforms, and their browser.
            Without waiting, the `SequenceJob`.

        Raises:
            BridgeError: nodes or settings cannot be used, or the registration failed; the scene is unchanged.
        """
        inputs = SequenceInputs(sequence, referenceFrame, {"preset": preset, **settings}, mask)
        job = SequenceJob(inputs, on_progress=onProgress, on_finished=onFinished)
        if not waitForCompletion:
            job.start()
            return job
        outputs = job.wait()
        for message in outputs.messages:
            _LOGGER.warning(message)
        return outputs

    def subtractSeries(self, series: Any, timePoint: int | None = None, timePointsBefore: int = 1) -> Any:
        """Return a time point of a registered series minus the signal before contrast; see the bridge's."""
        return subtraction_volume(series, timePoint, timePointsBefore)

    def plotCurves(self, series: Any, labels: Any, timePointsBefore: int = 1) -> Any:
        """Return the chart of the mean signal over time, as acquired and registered; see the bridge's."""
        return plot_curves(series, labels, timePointsBefore)

    def transformNodes(
        self,
        nodes: Sequence[Any],
        transformNode: Any,
        mode: str = "resample",
        direction: str = "moving to fixed",
    ) -> list[str]:
        """Transform nodes that belong to one volume with a registration; `undoTransformNodes` undoes it.

        Args:
            nodes: volumes, segmentations, labelmaps, markups and models.
            transformNode: the result of a registration.
            mode: "resample" (new nodes in the other space) or "attach" (put under the transform).
            direction: "moving to fixed" for what belongs to the moving volume; "fixed to moving" for what belongs to
                the fixed one, with the stored inverse.

        Returns:
            The volume of each resampled segment before and after.

        Raises:
            BridgeError: a node cannot be transformed, or the volume that it would be resampled onto was removed.
        """
        self.undo.append(transform_nodes(nodes, transformNode, mode, direction))
        return self.undo[-1].notes

    def undoTransformNodes(self) -> list[str]:
        """Undo the last call of `transformNodes` that was not undone yet.

        Returns:
            Messages about what stays, since it has been changed in the meantime.
        """
        return self.undo.pop().undo() if self.undo else []

    def measureQuality(
        self,
        transformNode: Any,
        fixedLabels: Any = None,
        movingLabels: Any = None,
        fixedPoints: Any = None,
        movingPoints: Any = None,
    ) -> Any:
        """Return the table node with the quality of a registration before and after; see the bridge's."""
        return quality_table(fixedLabels, movingLabels, fixedPoints, movingPoints, transformNode)

    def _follow(self, nodes: Sequence[Any], transformNode: Any, mode: str) -> list[str]:
        """Transform nodes; return error messages, nothing on success."""
        if not nodes:
            return []
        try:
            self.transformNodes(nodes, transformNode, mode)
        except BridgeError as error:
            return [f"The registration is done ('{transformNode.GetName()}'), but no node was transformed: {error}"]
        return []
