"""Scripted module of 3D Slicer: deformable registration with vision foundation encoders, without training.

Module, widget and self-test. The work is done in `FoundationRegistrationBridge` (nodes, no widgets), which runs
`FoundationRegistrationLib` (no Slicer) in a separate process; `FoundationRegistrationPanel` has the logic and the
parts of the panel. For research, not a medical device.
"""

from __future__ import annotations

import math
import os
import unittest
from collections.abc import Iterator
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
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

add_library_to_path()

from FoundationRegistrationBridge.errors import BridgeError  # noqa: E402
from FoundationRegistrationBridge.follow.directions import why_nothing_follows  # noqa: E402
from FoundationRegistrationBridge.process.dependencies import TORCH, missing, read_requirements  # noqa: E402
from FoundationRegistrationBridge.views.overlay import PetOverlay  # noqa: E402
from FoundationRegistrationPanel.batch_section import BatchSection  # noqa: E402
from FoundationRegistrationPanel.choosing.advanced_form import PARAMETER_NAME, DefaultTips, add_setting_rows  # noqa: E402
from FoundationRegistrationPanel.choosing.mask_segments import SegmentSelector  # noqa: E402
from FoundationRegistrationPanel.choosing.moves_along import MovesAlong  # noqa: E402
from FoundationRegistrationPanel.choosing.observed import Observed, content_events  # noqa: E402
from FoundationRegistrationPanel.choosing.section_states import show_section_states  # noqa: E402
from FoundationRegistrationPanel.choosing.series_choice import SeriesChoice, reference_of  # noqa: E402
from FoundationRegistrationPanel.choosing.task_choice import TaskChoice  # noqa: E402
from FoundationRegistrationPanel.cohort_reader import FoundationRegistrationFileReader  # noqa: E402, F401
from FoundationRegistrationPanel.logic import FoundationRegistrationLogic  # noqa: E402
from FoundationRegistrationPanel.parameters import (  # noqa: E402
    MASKS,
    TO_FIXED,
    apply_preset,
    changed_settings,
    chosen_encoders,
    chosen_settings,
    mask_of,
    reset_settings,
)
from FoundationRegistrationPanel.result.quality_view import QualityView  # noqa: E402
from FoundationRegistrationPanel.result.view import ResultView  # noqa: E402
from FoundationRegistrationPanel.running.control import RunControl  # noqa: E402
from FoundationRegistrationPanel.running.packages import packages_ready  # noqa: E402
from FoundationRegistrationPanel.running.readiness import what_is_missing  # noqa: E402
from FoundationRegistrationPanel.running.weights import ask_consent, fetch_weights  # noqa: E402
from FoundationRegistrationPanel.sample_data import add_phantom, register_sample_data  # noqa: E402
from FoundationRegistrationPanel.tasks import SERIES  # noqa: E402
from FoundationRegistrationPanel.wording import facts  # noqa: E402
from FoundationRegistrationPanel.wording.messages import in_panel_words  # noqa: E402

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
        self._inputs = Observed(self._onNodesChanged)
        self._nodesTimer = qt.QTimer()
        self._nodesTimer.setSingleShot(True)
        self._nodesTimer.connect("timeout()", self._showNodesChanged)
        self._useWeightsFolder(qt.QSettings().value(WEIGHTS_FOLDER_KEY) or "")
        self._connectWidgets()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
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
        self._forgetChoices()
        self.logic.undo.clear()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any = None, event: Any = None) -> None:
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller: Any = None, event: Any = None) -> None:
        """Called when all nodes of an opened scene are there."""
        self._forgetChoices()
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
        with self._errorsInWords():
            if not packages_ready(self._requirements(), self._run, self._onFetched):
                return
            absent = facts.missing_weights(chosen_encoders(self._parameterNode), self._parameterNode.weights)
            if not absent:
                self._startRegistration()
            elif ask_consent(absent):
                fetch_weights(absent, self._run, self._onFetched)

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

    def openCohort(self, folder: Path) -> bool:
        """Show a finished cohort in the Batch section, to load one of its pairs; return whether it is shown."""
        return self._batch.open(folder)

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
        self._inputs.release()
        self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)

    def _forgetChoices(self) -> None:
        """Take the choices of another scene as they come, and none as changed by the user."""
        for selector in self._segmentSelectors:
            selector.forget()
        self._result.forget()

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
        inputs = ("fixedVolume", "movingVolume", *MASKS, "fixedStructures", "movingStructures")
        self._inputs.watch((parameters.getValue(name) for name in inputs), content_events)
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
        """Called when a node was added, removed or edited; many such events are answered once, when all are over."""
        self._nodesTimer.start(0)

    def _showNodesChanged(self) -> None:
        """Show what changed nodes, or a run that begins or ends, mean for the result and its followers."""
        if self._parameterNode is not None:
            for selector in self._segmentSelectors:
                selector.show(self._parameterNode)
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
        return facts.estimate_line(self._expectedRun())

    def _expectedRun(self) -> Any:
        """Return what a run with the chosen volumes and settings is expected to take; None if nothing tells it."""
        fixed, moving = self._parameterNode.fixedVolume, self._parameterNode.movingVolume
        settings = chosen_settings(self._parameterNode).suited_to(fixed.GetSpacing(), moving.GetSpacing())
        data = fixed.GetImageData()
        return facts.expected_run(settings, data.GetDimensions() if data else (0, 0, 0), fixed.GetSpacing())

    def _startRegistration(self) -> None:
        self._result.prepare_run()
        parameters = self._parameterNode
        if parameters.task == SERIES:
            self._startSeries()
            return
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
            expectedSeconds=facts.expected_steps(self._expectedRun()),
            **changed_settings(parameters),
        )
        self._run.begin(self._job)

    def _startSeries(self) -> None:
        parameters = self._parameterNode
        job = self.logic.registerSequence(
            parameters.series,
            reference_of(parameters),
            parameters.preset,
            mask=mask_of(parameters, "fixedMask"),
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
            self._parameterNode.resultTransform = outputs.transform_node
            self._parameterNode.resultVolume = outputs.volume_node
            self._quality.clear()  # also if the same nodes hold a new result
            self._result.begin(self._parameterNode, fade=self.parent.isEntered)
        self._showEnd(outputs, error, cancelled, of_series=False)

    def _onSeriesFinished(self, outputs: Any, error: str | None, cancelled: bool) -> None:
        if outputs is not None:
            name = outputs.sequence_node.GetName()
            for message in (*outputs.messages, _("Done: '{name}', with its own browser.").format(name=name)):
                self._run.say(in_panel_words(message))
            self._parameterNode.resultSeries = outputs.sequence_node
            self._result.begin(self._parameterNode, fade=False)
        self._showEnd(outputs, error, cancelled, of_series=True)

    def _showEnd(self, outputs: Any, error: str | None, cancelled: bool, *, of_series: bool) -> None:
        """Say why a run has no result, and what else went wrong."""
        if outputs is None and self._parameterNode is not None:
            self._result.end(self._parameterNode, error, of_series=of_series)
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
