"""Whatever is chosen, clicked, removed and emptied, in any order: no exception, and nothing is on that then fails."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import vtk
from driving import unfold

_STEPS = 60
_SELECTORS = ("fixedVolume", "movingVolume", "fixedMask", "movingMask", "fixedLesion", "movingLesion")
_SELECTORS += ("initialTransform", "outputTransform", "outputVolume", "resultTransform", "resultVolume")
_SELECTORS += ("petVolume", "fixedLabels", "movingLabels", "fixedPoints", "movingPoints")
_COMBOS = ("compareSelector", "displacementSelector", "mapSelector", "followModeSelector", "encoderSelector")
_COMBOS += ("presetSelector", "detail_encoderSetting", "fixedSegmentSelector", "movingLesionSegmentSelector")
_COMBOS += ("taskSelector",)
_BUTTONS = ("followButton", "undoFollowButton", "qualityButton", "petButton", "createVolumeCheckBox", "stopButton")
_BUTTONS += ("alignByHandButton", "alignByLandmarksButton", "drawMaskButton", "anotherTaskButton")
_BUTTONS += ("wayDoneButton", "wayCancelButton", "plotButton", "copyQualityButton")
_BUTTONS += ("proposalButton", "swapButton", "resetButton", "landmarksButton")


class Scene:
    """Nodes of every kind, sound and not, that come and go."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._makers = (self._volume, self._volume, self._labels, self._segmentation, self._points, self._transform)
        for maker in self._makers * 2:
            maker()

    def add(self) -> None:
        self._rng.choice(np.array(self._makers, dtype=object))()

    def nodes(self) -> list[Any]:
        found = [slicer.mrmlScene.GetNthNode(index) for index in range(slicer.mrmlScene.GetNumberOfNodes())]
        kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLTransformNode")
        return [node for node in found if any(node.IsA(kind) for kind in kinds) and not node.GetHideFromEditors()]

    def remove(self) -> None:
        if nodes := self.nodes():
            slicer.mrmlScene.RemoveNode(nodes[self._rng.integers(len(nodes))])

    def move(self) -> None:
        """Put a node under a transform, or under none."""
        nodes = self.nodes()
        transforms = [None, *(node for node in nodes if node.IsA("vtkMRMLTransformNode"))]
        node, parent = nodes[self._rng.integers(len(nodes))], transforms[self._rng.integers(len(transforms))]
        above = parent
        while above is not None and above is not node:
            above = above.GetParentTransformNode()
        if above is None:
            node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)

    def spoil(self) -> None:
        """Take from a node what it holds."""
        nodes = self.nodes()
        node = nodes[self._rng.integers(len(nodes))]
        if node.IsA("vtkMRMLVolumeNode"):
            node.SetAndObserveImageData(None)
        elif node.IsA("vtkMRMLSegmentationNode"):
            node.GetSegmentation().RemoveAllSegments()
        elif node.IsA("vtkMRMLMarkupsNode"):
            node.UnsetAllControlPoints()

    def register(self) -> None:
        """Make some transform the registration of some volumes, with or without its inverse, as a run would."""
        from FoundationRegistrationBridge.scene.transforms import INVERSE_ROLE, store_record

        volumes = [node for node in self.nodes() if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
        if not volumes:
            return
        fixed, moving = (volumes[self._rng.integers(len(volumes))] for _ in range(2))
        transform = self._transform()
        record = {"verdict": {"level": "failed", "reasons": ["The volumes agree no better than by chance."]}}
        store_record(transform, record if self._rng.random() < 0.5 else {}, fixed, moving)
        if self._rng.random() < 0.5:
            transform.SetNodeReferenceID(INVERSE_ROLE, self._transform().GetID())

    def _array(self, kind: str, name: str, array: Any) -> Any:
        from FoundationRegistrationBridge.nodes.grids import image_from_array

        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        node.SetAndObserveImageData(image_from_array(array))
        node.SetSpacing(*self._rng.uniform(0.5, 3.0, 3))
        return node

    def _volume(self) -> Any:
        factor = self._rng.choice([1.0, 1000.0])
        return self._array("vtkMRMLScalarVolumeNode", "V", (factor * self._rng.random((6, 7, 8))).astype(np.float32))

    def _labels(self) -> Any:
        return self._array("vtkMRMLLabelMapVolumeNode", "L", self._rng.integers(0, 3, (6, 7, 8)).astype(np.uint8))

    def _segmentation(self) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
        labels = self._labels()
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        slicer.mrmlScene.RemoveNode(labels)
        return node

    def _points(self) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "P")
        for point in self._rng.uniform(-5.0, 5.0, (int(self._rng.integers(4)), 3)):
            node.AddControlPoint(vtk.vtkVector3d(point))
        return node

    def _transform(self) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "T")
        move = vtk.vtkTransform()
        move.Translate(*self._rng.uniform(-3.0, 3.0, 3))
        node.SetMatrixTransformToParent(move.GetMatrix())
        return node


def choose_any(rng: np.random.Generator, combo: Any) -> None:
    if combo.count():
        index = int(rng.integers(combo.count()))
        combo.setCurrentIndex(index)
        combo.activated.emit(index)


def use(rng: np.random.Generator, ui: Any, scene: Scene) -> None:
    """Do something that a person could do now."""
    kind = rng.integers(10)
    if kind < 4:
        choose_any(rng, getattr(ui, f"{rng.choice(_SELECTORS)}Selector").combo)
    elif kind == 4:
        combo = getattr(ui, str(rng.choice(_COMBOS)))
        if combo.enabled:
            index = int(rng.integers(max(combo.count, 1)))
            combo.setCurrentIndex(index)
            combo.activated.emit(index)
    elif kind < 7:
        button = getattr(ui, str(rng.choice(_BUTTONS)))
        if button.enabled and button.visible:
            button.click()
    elif kind == 7:
        for node in ui.followSelector.nodes():
            if rng.random() < 0.2:
                checked = ui.followSelector.checkState(node) == qt.Qt.Checked
                ui.followSelector.setCheckState(node, qt.Qt.Unchecked if checked else qt.Qt.Checked)
    elif scene.nodes():
        change = rng.choice(
            np.array([scene.add, scene.remove, scene.move, scene.spoil, scene.register], dtype=object)
        )
        change()


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_choices_raises(panel: Any, qtbot: Any, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(seed)
    scene = Scene(rng)
    scene.register()
    for section in (panel.ui.resultSection, panel.ui.petSection, panel.ui.qualitySection):
        unfold(section)
    with caplog.at_level(logging.ERROR):
        for _ in range(_STEPS):
            use(rng, panel.ui, scene)
    for record in caplog.records:  # what was said in words is one line
        assert "Traceback" not in record.getMessage() and record.exc_info is None
