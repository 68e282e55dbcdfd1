"""A person whose registration is bad gets out of it: a click below the verdict, and the next one is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from driving import choose, push

PATIENCE_MS = 300_000
LEVELS = ("failed", "check", "good")


@pytest.fixture
def lost(scene: Any) -> dict[str, Any]:
    """A breast at two dates, the moving one turned by 100 degrees and 80 mm away, with `away` from there to here."""
    from FoundationRegistrationBridge.grids import array_of, matrix_of
    from FoundationRegistrationPanel.sample_data import add_phantom

    nodes = add_phantom("longitudinal", spacing_mm=7.0)
    motion = vtk.vtkTransform()
    motion.Translate(20.0, -70.0, 35.0)
    motion.RotateWXYZ(100.0, 1.0, 0.2, -0.1)
    away = array_of(motion.GetMatrix())
    grid = vtk.vtkMatrix4x4()
    nodes["moving"].GetIJKToRASMatrix(grid)
    nodes["moving"].SetIJKToRASMatrix(matrix_of(away @ array_of(grid)))
    nodes["moving_points"].ApplyTransformMatrix(matrix_of(away))
    nodes["away"] = away
    return nodes


def register(panel: Any, qtbot: Any) -> int:
    """Click *Register*, wait for the result, and return how good it is."""
    ui = panel.ui
    push(ui.applyButton)
    qtbot.waitUntil(lambda: ui.applyButton.text == "Register", timeout=PATIENCE_MS)
    from FoundationRegistrationBridge.transforms import stored_record

    return LEVELS.index(stored_record(ui.resultTransformSelector.currentNode())["verdict"]["level"])


def choose_lost_pair(panel: Any, lost: dict[str, Any]) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, lost["fixed"].GetName())
    choose(ui.movingVolumeSelector, lost["moving"].GetName())
    choose(ui.taskSelector, "Longitudinal MRI")
    choose(ui.initializationSelector, "None")
    ui.working_spacing_mmSetting.value = 7.0
    choose(ui.stagesSelector, "Rigid")


def test_hand_and_landmarks_lead_out_of_a_failed_registration(panel: Any, lost: dict[str, Any], qtbot: Any) -> None:
    from FoundationRegistrationBridge.grids import matrix_of

    ui, parameters = panel.ui, panel._parameterNode
    choose_lost_pair(panel, lost)
    bad = register(panel, qtbot)
    assert bad == LEVELS.index("failed"), ui.reasonsNote.text
    name = ui.resultTransformSelector.currentNode().GetName()

    # By hand: the volume is dragged to about the right place, and is where it was afterwards.
    push(ui.alignByHandButton)
    assert ui.wayNote.visible and ui.wayDoneButton.visible and not ui.alignByLandmarksButton.enabled
    hand = lost["moving"].GetParentTransformNode()
    roughly = np.linalg.inv(lost["away"])
    roughly[:3, 3] += (3.0, -2.0, 4.0)
    hand.SetMatrixTransformToParent(matrix_of(roughly))
    push(ui.wayDoneButton)
    assert lost["moving"].GetParentTransformNode() is None and parameters.initialTransform is hand
    assert "Press Register" in ui.wayNote.text
    assert register(panel, qtbot) > bad, ui.reasonsNote.text
    assert not ui.wayDoneButton.visible

    # By landmarks, placed in the views by turns.
    choose(ui.resultTransformSelector, name)
    push(ui.alignByLandmarksButton)
    lists = [slicer.util.getNode(f"Landmarks in {lost[side].GetName()}") for side in ("fixed", "moving")]
    for number in range(4):
        for side, markups in zip(("fixed", "moving"), lists, strict=True):
            position = lost[f"{side}_points"].GetNthControlPointPosition(number)
            markups.AddControlPoint(vtk.vtkVector3d(position))
            slicer.app.processEvents()
    push(ui.wayDoneButton)
    assert [parameters.fixedDrivingPoints, parameters.movingDrivingPoints] == lists
    assert "4 pair(s)" in ui.wayNote.text
    assert parameters.initialTransform is None and parameters.initialization == "rigid"
    assert register(panel, qtbot) > bad, ui.reasonsNote.text
