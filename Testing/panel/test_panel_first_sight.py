"""What a person sees on opening: few controls, little height and width, and the state of each closed section."""

from __future__ import annotations

from typing import Any

import ctk
import pytest
import qt
import slicer
from driving import choose, choose_pair, unfold
from PySide6 import QtCore, QtWidgets

_CONTROLS = (QtWidgets.QComboBox, QtWidgets.QAbstractButton, QtWidgets.QLineEdit, QtWidgets.QAbstractSpinBox)
_CONTROLS += (QtWidgets.QAbstractSlider,)
_SECTIONS = ("start", "masks", "driving", "along", "method", "outputs", "advanced")


@pytest.fixture
def container(panel: Any) -> Any:
    """The panel as the application shows it, as high as what is in sight."""
    container = panel.parent
    container.resize(420, 100)
    container.resize(420, container.sizeHint().height())
    QtWidgets.QApplication.processEvents()
    return container


def controls_in_sight(container: Any) -> list[Any]:
    """All that can be clicked or typed into, but for the headers of sections."""
    headers = [section.header for section in container.findChildren(ctk.ctkCollapsibleButton)]
    found = [widget for kind in _CONTROLS for widget in container.findChildren(kind)]
    return [widget for widget in found if widget.isVisible() and widget not in headers]


def test_four_controls_and_a_note_are_in_sight(panel: Any, container: Any) -> None:
    ui = panel.ui
    wanted = [ui.fixedVolumeSelector.combo, ui.movingVolumeSelector.combo, ui.taskSelector, ui.applyButton]
    assert sorted(map(id, controls_in_sight(container))) == sorted(map(id, wanted))
    assert ui.taskSelector.currentText == "Choose a task" and ui.researchNote.visible
    assert all(section.collapsed for section in container.findChildren(ctk.ctkCollapsibleButton))
    headers = [section.header for section in container.findChildren(ctk.ctkCollapsibleButton) if section.visible]
    bottoms = [header.mapTo(container, QtCore.QPoint(0, header.height)).y() for header in headers]
    assert max(bottoms) <= 420


def test_nothing_makes_the_panel_wide(panel: Any, container: Any, scene: Any) -> None:
    """With each section open, whatever is chosen; the names of encoders, nodes and time points are long."""
    assert container.minimumSizeHint().width() <= 260
    name = "a volume with the long name that a scanner gives it, series 1401, reconstruction 2"
    for number in range(2):
        scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{name} {number}")
        scene.AddNewNodeByClass("vtkMRMLTransformNode", f"{name} {number}")
    ui = panel.ui
    choose(ui.taskSelector, "PET/CT to MRI")
    choose(ui.fixedVolumeSelector, f"{name} 0")
    choose(ui.movingVolumeSelector, f"{name} 1")
    choose(ui.initialTransformSelector, f"{name} 0")
    for index in range(ui.encoderSelector.count):
        choose(ui.encoderSelector, ui.encoderSelector.itemText(index))
        assert ui.methodSection.minimumSizeHint().width() <= 300
    for section in _SECTIONS:
        button = getattr(ui, f"{section}Section")
        unfold(button)
        assert button.minimumSizeHint().width() <= 300, button.text
    for box in (ui.waysBox, ui.seriesBox):
        box.visible = True
    for name in ("result", "pet", "details", "quality"):
        button = getattr(ui, f"{name}Section")
        unfold(button)
        assert button.minimumSizeHint().width() <= 330, button.text
    assert container.minimumSizeHint().width() <= 350


def headers(ui: Any) -> dict[str, str]:
    return {name: getattr(ui, f"{name}Section").text.partition(": ")[2] for name in _SECTIONS}


def test_headers_say_what_is_in_the_closed_sections(panel: Any, pair: dict[str, Any], scene: Any) -> None:
    ui = panel.ui
    choose_pair(ui, pair["fixed"], pair["moving"], "Longitudinal MRI")
    assert headers(ui) == {
        "start": "automatic, affine",
        "masks": "none",
        "driving": "none",
        "along": "none",
        "method": "Longitudinal, MIND-SSC",
        "outputs": "transform, image",
        "advanced": "as the preset",
    }
    choose(ui.initializationSelector, "Centre of mass")
    assert headers(ui)["start"] == "automatic, centre of mass"
    choose(ui.initializationSelector, "None")
    assert headers(ui)["start"] == "as the images lie"
    scene.AddNewNodeByClass("vtkMRMLTransformNode", "by hand")
    choose(ui.initialTransformSelector, "by hand")
    assert headers(ui)["start"] == "'by hand'"
    choose(ui.fixedMaskSelector, "structures")
    assert headers(ui)["masks"] == "fixed mask"
    choose(ui.movingLesionSelector, "structures")
    assert headers(ui)["masks"] == "2 chosen"
    choose(ui.stagesSelector, "Rigid")
    assert headers(ui)["method"] == "Longitudinal, rigid"
    ui.createVolumeCheckBox.checked = False
    assert headers(ui)["outputs"] == "transform"
    ui.followSelector.setCheckState(pair["moving"], qt.Qt.Checked)
    assert headers(ui)["along"] == "1 node"
    ui.followSelector.setCheckState(pair["fixed_labels"], qt.Qt.Checked)
    assert headers(ui)["along"] == "2 nodes"
    slicer.mrmlScene.RemoveNode(pair["fixed_labels"])
    assert headers(ui)["along"] == "1 node" and headers(ui)["masks"] == "none"


def test_points_are_a_start_and_are_found_from_there(panel: Any, pair: dict[str, Any], scene: Any) -> None:
    ui = panel.ui
    unfold(ui.startSection)
    ui.landmarksButton.click()
    assert not ui.drivingSection.collapsed
    for name in ("on MRI", "on CT"):
        scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    choose(ui.fixedDrivingPointsSelector, "on MRI")
    assert ui.startSection.text == "Start: automatic, affine"
    choose(ui.movingDrivingPointsSelector, "on CT")
    assert ui.startSection.text == "Start: landmarks" and ui.drivingSection.text == "Structures and points: points"
