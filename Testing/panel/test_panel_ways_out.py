"""A person whose registration is bad gets out of it: a click below the verdict, and the next one is better."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from driving import choose, choose_pair, push

sys.path.insert(0, str(Path(__file__).parents[1] / "mrml"))

PATIENCE_MS = 300_000
SPACING_MM = 8.0
LEVELS = ("failed", "check", "good")


@pytest.fixture
def lost(scene: Any) -> dict[str, Any]:
    """A breast at two dates, the moving one turned by 100 degrees and 80 mm away, with `away` from there to here."""
    from FoundationRegistrationBridge.nodes.grids import array_of, matrix_of
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
    from FoundationRegistrationBridge.scene.transforms import stored_record

    return LEVELS.index(stored_record(ui.resultTransformSelector.currentNode())["verdict"]["level"])


@pytest.fixture
def on_couch(scene: Any) -> dict[str, Any]:
    """A breast at two dates, the patient drawn as `body`; only the fixed image also shows a large couch."""
    from nodes import volume_node

    from FoundationRegistrationLib.phantom import make_phantom

    case = make_phantom("longitudinal", spacing_mm=SPACING_MM, difficulty="easy")
    margin = [8] * 3
    image, body = (sitk.ConstantPad(each, margin, margin) for each in (case.fixed, case.fixed_labels["body"]))
    size, origin, spacing, direction = image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    places = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, size, origin, spacing, direction)
    posterior, values = sitk.GetArrayFromImage(places)[..., 1], sitk.GetArrayFromImage(image)
    drawn = sitk.GetArrayFromImage(body) > 0
    couch = posterior > posterior[drawn].max()
    texture = 1.0 + 0.3 * np.random.default_rng(0).standard_normal(np.count_nonzero(couch))
    values[couch] = np.percentile(values[drawn], 60) * texture
    fixed = sitk.GetImageFromArray(values)
    fixed.CopyInformation(image)
    nodes = {"fixed": volume_node(scene, fixed, "today"), "moving": volume_node(scene, case.moving, "before")}
    return {**nodes, "body": drawn.astype(np.uint8), "case": case}


def error_of(transform: Any, case: Any) -> float:
    """Return the mean error of a registration at the landmarks of a phantom, mm."""
    to_fixed = transform.GetTransformToParent()
    flip = np.array([-1.0, -1.0, 1.0])
    moved = [to_fixed.TransformPoint(point) for point in (case.moving_landmarks * flip).tolist()]
    return float(np.linalg.norm(np.array(moved) - case.fixed_landmarks * flip, axis=1).mean())


def choose_lost_pair(panel: Any, lost: dict[str, Any]) -> None:
    ui = panel.ui
    choose(ui.fixedVolumeSelector, lost["fixed"].GetName())
    choose(ui.movingVolumeSelector, lost["moving"].GetName())
    choose(ui.taskSelector, "Longitudinal MRI")
    choose(ui.initializationSelector, "None")
    ui.working_spacing_mmSetting.value = 7.0
    choose(ui.stagesSelector, "Rigid")


def test_hand_and_landmarks_lead_out_of_a_failed_registration(panel: Any, lost: dict[str, Any], qtbot: Any) -> None:
    from FoundationRegistrationBridge.nodes.grids import matrix_of

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


def test_a_drawn_mask_leads_out_of_a_doubtful_registration(panel: Any, on_couch: dict[str, Any], qtbot: Any) -> None:
    from FoundationRegistrationBridge.scene.transforms import stored_record

    ui, case = panel.ui, on_couch["case"]
    choose_pair(ui, on_couch["fixed"], on_couch["moving"], "Longitudinal MRI")
    ui.working_spacing_mmSetting.value = SPACING_MM
    assert register(panel, qtbot) == LEVELS.index("check")
    before = ui.resultTransformSelector.currentNode()

    push(ui.drawMaskButton)
    mask = slicer.util.getNode("Mask of today")
    assert not ui.applyButton.enabled and "marks nothing" in ui.statusNote.text
    slicer.util.updateSegmentBinaryLabelmapFromArray(on_couch["body"], mask, "mask", on_couch["fixed"])
    slicer.app.processEvents()
    assert register(panel, qtbot) == LEVELS.index("good"), ui.reasonsNote.text
    after = ui.resultTransformSelector.currentNode()
    assert after is not before and error_of(after, case) < error_of(before, case)
    expected = [stored_record(node)["metrics"]["expected_error"]["median_mm"] for node in (before, after)]
    assert expected[1] < 0.75 * expected[0]
