"""The section *Structures and points*: what is chosen there drives the registration."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from driving import choose, choose_pair, click, unfold


def ready(panel: Any, pair: dict[str, Any]) -> Any:
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    return panel.ui


def point_list(scene: Any, name: str) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.AddControlPoint(vtk.vtkVector3d(4.0, 4.0, 4.0), "nipple")
    return node


def test_the_section_is_closed_until_it_is_wanted_and_says_that_it_proves_nothing(panel: Any) -> None:
    ui = panel.ui
    assert ui.drivingSection.collapsed
    unfold(ui.drivingSection)
    for selector in (
        ui.fixedStructuresSelector,
        ui.movingStructuresSelector,
        ui.fixedDrivingPointsSelector,
        ui.movingDrivingPointsSelector,
    ):
        assert selector.visible
        assert "says nothing about its accuracy" in selector.toolTip


def test_one_side_alone_and_empty_ones_are_said(panel: Any, pair: dict[str, Any]) -> None:
    ui = ready(panel, pair)
    unfold(ui.drivingSection)
    choose(ui.fixedStructuresSelector, "structures")
    assert "Choose the moving structures too" in ui.statusNote.text and not ui.applyButton.enabled
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "not drawn yet")
    choose(ui.movingStructuresSelector, "not drawn yet")
    assert "'not drawn yet' are empty" in ui.statusNote.text and not ui.applyButton.enabled
    choose(ui.movingStructuresSelector, "None")
    choose(ui.fixedStructuresSelector, "None")
    point_list(slicer.mrmlScene, "on CT")
    choose(ui.movingDrivingPointsSelector, "on CT")
    assert "Choose the fixed points too" in ui.statusNote.text and not ui.applyButton.enabled
    point_list(slicer.mrmlScene, "on MRI")
    choose(ui.fixedDrivingPointsSelector, "on MRI")
    assert ui.applyButton.enabled and not ui.statusNote.visible


def test_what_is_chosen_is_passed_on_also_for_a_rigid_run(panel: Any, pair: dict[str, Any], monkeypatch: Any) -> None:
    ui = ready(panel, pair)
    unfold(ui.drivingSection)
    scene, parameters = slicer.mrmlScene, panel._parameterNode
    moving = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "structures on CT")
    moving.GetSegmentation().DeepCopy(pair["fixed_labels"].GetSegmentation())
    points = {name: point_list(scene, name) for name in ("on MRI", "on CT")}
    choose(ui.fixedStructuresSelector, "structures")
    choose(ui.movingStructuresSelector, "structures on CT")
    choose(ui.fixedDrivingPointsSelector, "on MRI")
    choose(ui.movingDrivingPointsSelector, "on CT")
    choose(ui.stagesSelector, "Rigid")
    assert ui.applyButton.enabled
    assert parameters.fixedPoints is None, "points that drive are not those that measure"
    passed = {}

    class Job:
        log = ()

        def __init__(self, inputs: Any, **_options: Any) -> None:
            passed.update(inputs.driving)

        def start(self) -> None:
            pass

        def poll(self) -> bool:
            return False

        def cancel(self) -> None:
            pass

    monkeypatch.setitem(type(panel.logic).register.__globals__, "RegistrationJob", Job)
    click(ui.applyButton)
    assert passed == {
        "structures": (pair["fixed_labels"], moving),
        "points": (points["on MRI"], points["on CT"]),
    }
