"""Scripted module of 3D Slicer: deformable registration with vision foundation encoders, without training.

Module, widget, logic and self-test. The work is done in `FoundationRegistrationBridge` (nodes, no widgets), which
runs `FoundationRegistrationLib` (no Slicer) in a separate process; `FoundationRegistrationPanel` has the parts of the
panel. For research, not a medical device.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util
import vtk
from FoundationRegistrationBridge.library import add_library_to_path
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

add_library_to_path()

from FoundationRegistrationBridge.attachment_watch import AttachmentWatch  # noqa: E402 - the engine is on the path only now
from FoundationRegistrationBridge.batch import BatchProgress, BatchResult, register_batch  # noqa: E402
from FoundationRegistrationBridge.cohort_results import LoadedPair, load_pair  # noqa: E402
from FoundationRegistrationBridge.dependencies import TORCH, missing, read_requirements  # noqa: E402
from FoundationRegistrationBridge.errors import BridgeError  # noqa: E402
from FoundationRegistrationBridge.job import RegistrationJob  # noqa: E402
from FoundationRegistrationBridge.job_inputs import JobInputs  # noqa: E402
from FoundationRegistrationBridge.overlay import PetOverlay  # noqa: E402
from FoundationRegistrationBridge.quality_table import quality_table  # noqa: E402
from FoundationRegistrationBridge.registrations import (  # noqa: E402
    check_followers,
    transform_nodes,
    why_nothing_follows,
)
from FoundationRegistrationBridge.sequence_job import SequenceInputs, SequenceJob  # noqa: E402
from FoundationRegistrationBridge.series_curves import plot_curves  # noqa: E402
from FoundationRegistrationBridge.series_subtraction import subtraction_volume  # noqa: E402
from FoundationRegistrationBridge.stored_files import file_messages_of_pair, with_messages  # noqa: E402
from FoundationRegistrationPanel import facts  # noqa: E402
from FoundationRegistrationPanel.advanced_form import PARAMETER_NAME, DefaultTips, add_setting_rows  # noqa: E402
from FoundationRegistrationPanel.batch_section import BatchSection  # noqa: E402
from FoundationRegistrationPanel.mask_segments import SegmentSelector  # noqa: E402
from FoundationRegistrationPanel.moves_along import MovesAlong  # noqa: E402
from FoundationRegistrationPanel.packages_install import packages_ready  # noqa: E402
from FoundationRegistrationPanel.parameters import (  # noqa: E402
    TO_FIXED,
    FoundationRegistrationParameterNode,
    apply_preset,
    changed_settings,
    chosen_encoders,
    chosen_settings,
    mask_of,
    reset_settings,
)
from FoundationRegistrationPanel.quality_view import QualityView  # noqa: E402
from FoundationRegistrationPanel.readiness import what_is_missing  # noqa: E402
from FoundationRegistrationPanel.result_view import ResultView  # noqa: E402
from FoundationRegistrationPanel.run_control import RunControl  # noqa: E402
from FoundationRegistrationPanel.sample_data import add_phantom, register_sample_data  # noqa: E402
from FoundationRegistrationPanel.section_states import show_section_states  # noqa: E402
from FoundationRegistrationPanel.series_choice import SeriesChoice, reference_of  # noqa: E402
from FoundationRegistrationPanel.task_choice import TaskChoice  # noqa: E402
from FoundationRegistrationPanel.tasks import SERIES  # noqa: E402
from FoundationRegistrationPanel.weights_fetch import WeightsFetch, ask_consent  # noqa: E402
from FoundationRegistrationPanel.words import in_panel_words  # noqa: E402

_LOGGER = logging.getLogger(__name__)

WEIGHTS_FOLDER_KEY = "FoundationRegistration/WeightsFolder"
WEIGHTS_FOLDER_VARIABLE = "FOUNDATION_REGISTRATION_WEIGHTS"


class FoundationRegistration(ScriptedLoadableModule):
    """Module description for Slicer."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Foundation Registration")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []
        parent.contributors = ["FoundationRegistration contributors"]
        parent.helpText = _(
            "Registers a moving volume to a fixed one with the features of a vision foundation encoder, without "
            "training: breast MRI of two dates or two sequences, lesions, PET/CT to MRI, or any other anatomy. "
            "For research only. Not a medical device."
        )
        parent.acknowledgementText = _(
            'After Gu, Chen et al., "Are Vision Foundation Models Ready for Out-of-the-Box Medical Image '
            'Registration?" (2025), and ConvexAdam (Siebert et al., IEEE TMI 2024).'
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


class FoundationRegistrationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: connects widgets, parameter node and logic."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: FoundationRegistrationLogic | None = None
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: Any = None

    def setup(self) -> None:
        """Build the panel; nothing is downloaded and neither torch nor SimpleITK is imported."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FoundationRegistration.ui"))
        self.layout.addWidget(uiWidget)
        resultWidget = slicer.util.loadUI(self.resourcePath("UI/Result.ui"))
        ui = slicer.util.childWidgetVariables(uiWidget)
        qualityWidget = slicer.util.loadUI(self.resourcePath("UI/Quality.ui"))
        for widget in (resultWidget, qualityWidget):
            uiWidget.layout().insertWidget(uiWidget.layout().indexOf(ui.startSection), widget)
        add_setting_rows(ui.advancedSection.layout())
        self.ui = slicer.util.childWidgetVariables(uiWidget)  # with the rows of Advanced
        for widget in (uiWidget, resultWidget, qualityWidget):
            widget.setMRMLScene(slicer.mrmlScene)

        self.logic = FoundationRegistrationLogic()
        self._segmentSelectors = [
            SegmentSelector(self.ui.fixedSegmentSelector, "fixedMask"),
            SegmentSelector(self.ui.movingSegmentSelector, "movingMask"),
            SegmentSelector(self.ui.fixedLesionSegmentSelector, "fixedLesion"),
            SegmentSelector(self.ui.movingLesionSegmentSelector, "movingLesion"),
        ]
        self._task = TaskChoice(self.ui)
        self._series = SeriesChoice(self.ui)
        self._movesAlong = MovesAlong(self.ui, self._showNodesChanged)
        self._defaultTips = DefaultTips(self.ui)
        self._run = RunControl(self.ui, self._showNodesChanged)
        self._result = ResultView(self.ui, self._errorsInWords, self._task.choose, self.logic)
        self._quality = QualityView(self.ui, self.logic.measureQuality, self._errorsInWords)
        batchWidget = slicer.util.loadUI(self.resourcePath("UI/Batch.ui"))
        uiWidget.layout().insertWidget(uiWidget.layout().count() - 1, batchWidget)  # above the spacer
        self._batch = BatchSection(
            batchWidget,
            lambda: self._parameterNode,
            self._errorsInWords,
            self.logic.loadPair,
            self._requirements(),
        )
        self._history = facts.RunHistory(qt.QSettings())
        self._nodesTimer = qt.QTimer()
        self._nodesTimer.setSingleShot(True)
        self._nodesTimer.connect("timeout()", self._showNodesChanged)
        self._useWeightsFolder(qt.QSettings().value(WEIGHTS_FOLDER_KEY) or "")
        self._connectWidgets()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodesChanged)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes and the module widget is destroyed."""
        self._nodesTimer.stop()
        self._run.end_now()
        self._batch.close()
        self._result.close_all()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens another module; a run goes on."""
        self._result.leave()
        self._disconnectParameterNode()

    def onSceneStartClose(self, caller: Any = None, event: Any = None) -> None:
        """Called just before the scene is closed; a run detects by itself that its volumes are gone, and ends."""
        self._result.close_all()
        self.logic.undo.clear()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any = None, event: Any = None) -> None:
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure that a parameter node exists and is shown."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show and observe a parameter node, or none."""
        self._disconnectParameterNode()
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
            self._showTitles()
            self._onParametersChanged()

    def onApplyButton(self, checked: bool = False) -> None:
        """Start the registration, or cancel the running one."""
        if self._run.busy:
            self._run.cancel()
            return
        self._result.prepare_run()
        with self._errorsInWords():
            if not packages_ready(self._requirements(), self._run, self._onFetched):
                return
            absent = facts.missing_weights(chosen_encoders(self._parameterNode), self._parameterNode.weights)
            if not absent:
                self._startRegistration()
            elif ask_consent(absent):
                self._run.begin(WeightsFetch(absent, self._run.show_progress, self._onFetched))

    def onFollowButton(self, checked: bool = False) -> None:
        """Transform the checked nodes with the registration shown under Result."""
        parameters = self._parameterNode
        with self._errorsInWords():
            for note in self.logic.transformNodes(
                self._movesAlong.nodes(),
                parameters.resultTransform,
                parameters.followMode,
                parameters.followDirection,
            ):
                self._run.say(note)
        self._checkCanApply()

    def onUndoFollowButton(self, checked: bool = False) -> None:
        """Undo the last transformation."""
        with self._errorsInWords():
            stays = self.logic.undoTransformNodes()
            if stays:
                self._tell(" ".join(stays))
        self._checkCanApply()

    def onPreset(self, index: int) -> None:
        """Apply the settings of the chosen preset."""
        apply_preset(self._parameterNode, self._parameterNode.preset)

    def onResetButton(self, checked: bool = False) -> None:
        """Set all settings back to those of the preset."""
        reset_settings(self._parameterNode)

    def onLandmarksButton(self, checked: bool = False) -> None:
        """Open the section where points of both images are chosen."""
        self.ui.drivingSection.collapsed = False

    def onWeightsFolder(self) -> None:
        """Store the folder of weights in Slicer's settings."""
        folder = self.ui.weightsFolderEdit.text.strip()
        qt.QSettings().setValue(WEIGHTS_FOLDER_KEY, folder)
        self._useWeightsFolder(folder)
        self._onParametersChanged()

    def onWeightsFolderButton(self, checked: bool = False) -> None:
        """Let the user choose the folder of weights."""
        title = _("Folder with weight files")
        folder = qt.QFileDialog.getExistingDirectory(self.parent, title, self.ui.weightsFolderEdit.text)
        if folder:
            self.ui.weightsFolderEdit.text = folder
            self.onWeightsFolder()

    def _requirements(self) -> Path:
        return Path(self.resourcePath("requirements.txt"))

    def _connectWidgets(self) -> None:
        ui = self.ui
        ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        ui.presetSelector.connect("activated(int)", self.onPreset)
        ui.followButton.connect("clicked(bool)", self.onFollowButton)
        ui.undoFollowButton.connect("clicked(bool)", self.onUndoFollowButton)
        ui.landmarksButton.connect("clicked(bool)", self.onLandmarksButton)
        ui.resetButton.connect("clicked(bool)", self.onResetButton)
        ui.weightsFolderEdit.connect("editingFinished()", self.onWeightsFolder)
        ui.weightsFolderButton.connect("clicked(bool)", self.onWeightsFolderButton)

    def _disconnectParameterNode(self) -> None:
        if self._parameterNode is None or self._parameterNodeGuiTag is None:
            return
        self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNodeGuiTag = None
        self._task.release()
        self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)

    def _showTitles(self) -> None:
        """Show display names of presets, encoders and other choices in place of those in the parameter node."""
        for selector in vars(self.ui).values():
            titles = facts.choice_titles(selector.property(PARAMETER_NAME) or "")
            for index, title in enumerate(titles.values()):
                selector.setItemText(index, title)

    def _onParametersChanged(self, caller: Any = None, event: Any = None) -> None:
        parameters, ui = self._parameterNode, self.ui
        self._task.show(parameters)
        self._series.show(parameters)
        for selector in self._segmentSelectors:
            selector.show(parameters)
        ui.initializationSelector.enabled = parameters.initialTransform is None
        ui.outputVolumeSelector.enabled = parameters.createVolume
        ui.presetNote.text = facts.preset_line(parameters.preset, changed_settings(parameters))
        names = chosen_encoders(parameters)
        ui.encoderSelector.enabled = bool(names)
        ui.encoderNote.text = facts.encoder_line(names)
        ui.encoderNote.toolTip = facts.encoder_tip(parameters.encoder) if names else ""
        ui.weightsNote.text = facts.weights_line(names, parameters.weights)
        ui.resetButton.enabled = bool(changed_settings(parameters))
        self._defaultTips.show(parameters.preset)
        show_section_states(ui, parameters)
        self._showNodesChanged()

    def _onNodesChanged(self, caller: Any = None, event: Any = None) -> None:
        """Called when a node was added or removed; many of these events are answered once, when all are over."""
        self._nodesTimer.start(0)

    def _showNodesChanged(self) -> None:
        """Show what changed nodes, or a run that begins or ends, mean for the result and its followers."""
        if self._parameterNode is not None:
            self._movesAlong.show(self._parameterNode)
            self._showResult()
            self._checkCanApply()

    def _showResult(self) -> None:
        self._result.show(self._parameterNode, busy=self._run.busy)
        self._quality.show(self._parameterNode)

    def _checkCanApply(self, caller: Any = None, event: Any = None) -> None:
        """Enable the available actions, and say what is missing."""
        parameters, ui = self._parameterNode, self.ui
        if parameters is None:
            return
        problem = what_is_missing(parameters)
        busy = self._run.busy
        ui.applyButton.text = _("Cancel") if busy else _("Register")
        ui.applyButton.enabled = busy or not problem
        ui.applyButton.toolTip = problem or _("Register the moving image to the fixed one")
        ui.statusNote.text = "" if busy else problem
        ui.statusNote.visible = bool(ui.statusNote.text)
        ui.estimateNote.text = "" if problem or parameters.task == SERIES else self._estimate()
        ui.estimateNote.visible = bool(ui.estimateNote.text)
        problem = self._whyNothingFollows()
        ui.followButton.enabled = not problem
        ui.followButton.toolTip = problem or _("Apply the registration chosen under Result to the checked nodes")
        ui.undoFollowButton.enabled = bool(self.logic.undo)

    def _whyNothingFollows(self) -> str:
        """Return why *Apply now* is not available; empty if it is."""
        parameters = self._parameterNode
        problem = why_nothing_follows(parameters.resultTransform, parameters.followMode, parameters.followDirection)
        return problem if problem or self._movesAlong.nodes() else _("Under Apply to, check the nodes to transform.")

    def _estimate(self) -> str:
        settings = self._suitedSettings()
        return facts.estimate_line(self._history.runs(), settings, self._fixedVoxels(settings))

    def _suitedSettings(self) -> Any:
        """Return the settings with the working grid of the chosen volumes."""
        node = self._parameterNode
        return chosen_settings(node).suited_to(node.fixedVolume.GetSpacing(), node.movingVolume.GetSpacing())

    def _fixedVoxels(self, settings: Any) -> float:
        bounds = [0.0] * 6
        self._parameterNode.fixedVolume.GetRASBounds(bounds)
        return facts.fixed_voxels(bounds, settings)

    def _startRegistration(self) -> None:
        parameters = self._parameterNode
        if parameters.task == SERIES:
            self._startSeries()
            return
        settings = self._suitedSettings()
        self._voxels = self._fixedVoxels(settings)
        self._job = self.logic.register(
            parameters.fixedVolume,
            parameters.movingVolume,
            parameters.preset,
            fixedMask=mask_of(parameters, "fixedMask"),
            movingMask=mask_of(parameters, "movingMask"),
            fixedLesion=mask_of(parameters, "fixedLesion"),
            movingLesion=mask_of(parameters, "movingLesion"),
            fixedStructures=parameters.fixedStructures,
            movingStructures=parameters.movingStructures,
            fixedPoints=parameters.fixedDrivingPoints,
            movingPoints=parameters.movingDrivingPoints,
            region=parameters.region,
            initialTransform=parameters.initialTransform,
            outputTransform=parameters.outputTransform,
            outputVolume=parameters.outputVolume if parameters.createVolume else None,
            createVolume=parameters.createVolume,
            featurePreview=parameters.featurePreview,
            maps=True,
            follow=self._movesAlong.nodes() if parameters.followDirection == TO_FIXED else [],
            followMode=parameters.followMode,
            waitForCompletion=False,
            onProgress=self._run.show_progress,
            onFinished=self._onFinished,
            expectedSeconds=facts.expected_steps(self._history.runs(), settings, self._voxels),
            **changed_settings(parameters),
        )
        self._run.begin(self._job)

    def _startSeries(self) -> None:
        parameters = self._parameterNode
        job = self.logic.registerSequence(
            parameters.series,
            reference_of(parameters),
            parameters.preset,
            waitForCompletion=False,
            onProgress=self._run.show_progress,
            onFinished=self._onSeriesFinished,
            **changed_settings(parameters),
        )
        self._run.begin(job)

    def _onFetched(self, error: str | None, cancelled: bool) -> None:
        """Go on after packages or weights were fetched."""
        if error is not None:
            self._tell(error)
        elif not cancelled:
            # After this callback the task has ended, and the registration can begin.
            qt.QTimer.singleShot(0, self.onApplyButton)

    def _onFinished(self, outputs: Any, error: str | None, cancelled: bool) -> None:
        if outputs is not None:
            self._history.add(facts.run_of(outputs.record, self._voxels, self._job.step_seconds))
            self._parameterNode.resultTransform = outputs.transform_node
            self._parameterNode.resultVolume = outputs.volume_node
            self._quality.clear()  # also if the same nodes hold a new result
            self._result.begin(self._parameterNode, fade=self.parent.isEntered)
        elif self._parameterNode is not None:
            self._result.end(self._parameterNode, error)
        if cancelled:
            self._run.say(_("Cancelled; the scene is unchanged."))
        if error is not None:
            self._tell(error)

    def _onSeriesFinished(self, outputs: Any, error: str | None, cancelled: bool) -> None:
        if outputs is not None:
            name = outputs.sequence_node.GetName()
            for message in (*outputs.messages, _("Done: '{name}', with its own browser.").format(name=name)):
                self._run.say(in_panel_words(message))
            self._parameterNode.resultSeries = outputs.sequence_node
            self._result.begin(self._parameterNode, fade=False)
        elif self._parameterNode is not None:
            self._result.end(self._parameterNode, error)
        if cancelled:
            self._run.say(_("Cancelled; the scene is unchanged."))
        if error is not None:
            self._tell(error)

    def _useWeightsFolder(self, folder: str) -> None:
        """Pass the weights folder to the engine's process through the environment."""
        self.ui.weightsFolderEdit.text = folder
        if folder:
            os.environ[WEIGHTS_FOLDER_VARIABLE] = folder
        else:
            os.environ.pop(WEIGHTS_FOLDER_VARIABLE, None)

    @contextmanager
    def _errorsInWords(self) -> Iterator[None]:
        """Show errors for the user as their message; others with details."""
        with slicer.util.tryWithErrorDisplay(_("Something went wrong.")):
            try:
                yield
            except BridgeError as error:
                self._tell(str(error))

    def _tell(self, message: str) -> None:
        message = in_panel_words(message)
        self._run.say(message)
        slicer.util.errorDisplay(message)


class FoundationRegistrationLogic(ScriptedLoadableModuleLogic):
    """Registration, transforming nodes and quality, for the panel, the Python console and scripts."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.undo: list[Any] = []
        """Undo steps of `transformNodes`, the last call at the end."""
        self._watch = AttachmentWatch(slicer.mrmlScene)

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
            expectedSeconds: of each step in earlier runs (`RegistrationJob.step_seconds`), for the remaining time.
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
            outputFolder: for results and their table; see `FoundationRegistrationBridge.batch.register_batch`.
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
            Its nodes; see `FoundationRegistrationBridge.cohort_results.LoadedPair`.

        Raises:
            BridgeError: there is no such pair, it is not done, or a file is gone or has changed; nothing was added.
        """
        return load_pair(Path(folder).absolute(), name)

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


class FoundationRegistrationTest(ScriptedLoadableModuleTest):
    """Self-test in Slicer: registers a phantom and checks the results."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        self.setUp()
        try:
            self.test_RegisterPhantom()
        except unittest.SkipTest as reason:
            self.delayDisplay(str(reason))

    def test_RegisterPhantom(self) -> None:
        """Register PET/CT to MRI: landmarks align, structures follow, the PET is shown and hidden again."""
        requirements = read_requirements(Path(__file__).parent / "Resources" / "requirements.txt")
        if absent := missing([TORCH, *requirements]):  # a test installs nothing
            self.skipTest("Not installed: " + ", ".join(requirement.name for requirement in absent))
        self.delayDisplay(_("Creating a breast phantom"))
        nodes = add_phantom("pet-ct-to-mri", spacing_mm=5.0)
        self.delayDisplay(_("Registering it"))
        logic = FoundationRegistrationLogic()
        transformNode = logic.register(
            nodes["fixed"],
            nodes["moving"],
            "pet-ct-to-mri",
            encoder="mind",
            initialization="rigid",
            working_spacing_mm=6.0,
            follow=[nodes["moving_labels"]],
        )

        before = self._meanDistance(nodes, vtk.vtkTransform())
        after = self._meanDistance(nodes, transformNode.GetTransformToParent())
        self.assertLess(after, 0.6 * before)

        followed = slicer.util.getNode(nodes["moving_labels"].GetName() + " registered")
        self.assertIsNone(followed.GetParentTransformNode())
        names = [followed.GetSegmentation().GetNthSegment(index).GetName() for index in range(4)]
        self.assertEqual(names, ["breast", "fibroglandular", "organ", "lesion"])

        overlay = PetOverlay(nodes["pet"], nodes["fixed"], transformNode)
        overlay.show(1.0, 8.0, 0.5)
        self.assertTrue(overlay.is_shown)
        overlay.hide()
        self.assertFalse(overlay.is_shown)
        logic.undoTransformNodes()
        self.assertEqual(slicer.util.getNodes(nodes["moving_labels"].GetName() + " registered"), {})
        self.delayDisplay(_("Test passed"))

    @staticmethod
    def _meanDistance(nodes: Any, movingToFixed: Any) -> float:
        """Return the mean distance in mm of the fixed landmarks from the transformed moving ones."""
        fixed, moving = nodes["fixed_points"], nodes["moving_points"]
        count = fixed.GetNumberOfControlPoints()
        distances = [
            math.dist(
                fixed.GetNthControlPointPosition(index),
                movingToFixed.TransformPoint(moving.GetNthControlPointPosition(index)),
            )
            for index in range(count)
        ]
        return sum(distances) / count
