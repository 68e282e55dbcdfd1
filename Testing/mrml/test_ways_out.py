"""What a person does when a registration is bad, on nodes: align by hand, mark landmarks, draw a mask."""

import numpy as np
import pytest
import slicer
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import map_points, matrix_of
from FoundationRegistrationBridge.preparing.by_hand import HandAlignment
from FoundationRegistrationBridge.preparing.landmark_placing import LandmarkPlacing
from FoundationRegistrationBridge.preparing.mask_drawing import new_mask
from FoundationRegistrationBridge.run.inputs import JobInputs
from FoundationRegistrationBridge.run.nodes_to_files import export_inputs
from FoundationRegistrationBridge.scene.transforms import read_transform
from FoundationRegistrationBridge.views.borrowed import SLICE_VIEWS
from FoundationRegistrationBridge.views.compare import Comparison
from known_run import at, rigid, transform, volume
from nodes import grid_node, put_under, state

PARENTS = ("none", "linear", "grid")


@pytest.fixture
def views(scene):
    """Slice views, which closing a scene takes away."""
    composites = []
    for name in SLICE_VIEWS:
        if not any(node.GetLayoutName() == name for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")):
            node = slicer.vtkMRMLSliceNode()
            node.SetName(name)
            node.SetLayoutName(name)
            scene.AddNode(node)
        found = [c for c in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if c.GetLayoutName() == name]
        if not found:
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetLayoutName(name)
            found = [scene.AddNode(composite)]
        composites += found
    return composites


@pytest.fixture(params=PARENTS)
def pair(scene, views, request):
    rng = np.random.default_rng(3)
    fixed, moving = volume(scene, "MRI", rng), volume(scene, "CT", rng)
    for node in (fixed, moving):
        node.CreateDefaultDisplayNodes()
    if request.param != "none":
        table = transform(scene, "table", rigid(rng))
        put_under(moving, *([table] if request.param == "linear" else [grid_node(scene), table]))
    return fixed, moving


def displayed(moving):
    """Where the voxels of a volume are seen in the world."""
    points = np.random.default_rng(4).uniform(-9.0, 9.0, (20, 3))
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(moving.GetParentTransformNode(), None, to_world)
    return map_points(to_world, points)


def test_alignment_by_hand_starts_a_registration_and_leaves_the_volume_as_it_was(scene, pair, tmp_path):
    fixed, moving = pair
    before, parent = displayed(moving), moving.GetParentTransformNode()
    alignment = HandAlignment(fixed, moving)
    assert alignment.is_open
    assert np.allclose(displayed(moving), before, atol=1e-6), "nothing jumps where the volumes overlap"
    hand = slicer.util.getNode("CT by hand")
    display = hand.GetDisplayNode()
    assert (
        display.GetEditorVisibility() and display.GetEditorRotationEnabled() and not display.GetEditorScalingEnabled()
    )
    drag = rigid(np.random.default_rng(7), 40.0, 30.0)
    hand.SetMatrixTransformToParent(matrix_of(drag))
    assert np.allclose(displayed(moving), at(drag, before), atol=1e-6)
    node = alignment.accept()
    assert node is hand and not alignment.is_open and not display.GetEditorVisibility()
    assert moving.GetParentTransformNode() is parent
    assert np.allclose(displayed(moving), before, atol=1e-6)
    assert not slicer.util.getNodes("Position of*")
    # What the engine gets maps a fixed point to where the moving volume, as it lies, shows the same.
    export_inputs(JobInputs(fixed, moving, initial_transform=node), tmp_path, [])
    start = read_transform(tmp_path / "initial_transform.h5")
    assert np.allclose(map_points(start, at(drag, before)), before, atol=1e-4)


@pytest.mark.parametrize("end", ["cancelled", "parent removed", "hand removed", "moved elsewhere"])
def test_alignment_that_is_not_finished_leaves_nothing_behind(scene, pair, end):
    fixed, moving = pair
    parent = moving.GetParentTransformNode()
    before = state(scene)
    alignment = HandAlignment(fixed, moving)
    other = transform(scene, "other", np.eye(4)) if end == "moved elsewhere" else None
    if end == "parent removed" and parent is not None:
        scene.RemoveNode(parent)
    if end == "hand removed":
        scene.RemoveNode(slicer.util.getNode("CT by hand"))
    if other is not None:
        moving.SetAndObserveTransformNodeID(other.GetID())
    if end in ("hand removed", "moved elsewhere"):
        with pytest.raises(BridgeError, match="begin again"):
            alignment.accept()
    alignment.cancel()
    alignment.cancel()
    assert not slicer.util.getNodes("CT by hand") and not slicer.util.getNodes("Position of*")
    expected = other if other is not None else (parent if end != "parent removed" else None)
    assert moving.GetParentTransformNode() is expected
    if end == "cancelled":
        after = state(scene)
        assert set(after) == set(before)
        assert all(after[key]["references"] == before[key]["references"] for key in before)


def test_volumes_that_lie_apart_begin_on_each_other(scene, pair):
    fixed, moving = pair
    away = transform(scene, "away", np.eye(4))
    away.SetMatrixTransformToParent(matrix_of(np.array([[1, 0, 0, 900.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])))
    top = moving
    while top.GetParentTransformNode() is not None:
        top = top.GetParentTransformNode()
    put_under(top, away)
    far = displayed(moving)
    alignment = HandAlignment(fixed, moving)
    bounds = np.zeros(6), np.zeros(6)
    for node, found in zip((fixed, moving), bounds, strict=True):
        node.GetRASBounds(found)
    centres = [(found[::2] + found[1::2]) / 2 for found in bounds]
    assert np.linalg.norm(centres[0] - centres[1]) < 5.0
    alignment.accept()
    assert np.allclose(displayed(moving), far)


def test_views_show_both_while_aligning_and_are_the_users_own_after_it(views, pair):
    fixed, moving = pair
    composite = views[0]
    composite.SetBackgroundVolumeID(moving.GetID())
    alignment = HandAlignment(fixed, moving)
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (fixed.GetID(), moving.GetID())
    assert not composite.GetClipToBackgroundVolume(), "what lies beside the fixed volume is seen too"
    alignment.accept()
    assert composite.GetBackgroundVolumeID() == moving.GetID() and composite.GetForegroundVolumeID() is None


def test_landmarks_are_placed_by_turns(scene, views, pair):
    fixed, moving = pair
    views[0].SetBackgroundVolumeID(moving.GetID())
    interaction = scene.GetFirstNodeByClass("vtkMRMLInteractionNode")
    placing = LandmarkPlacing(fixed, moving)
    lists = placing.point_lists
    assert [node.GetName() for node in lists] == ["Landmarks in MRI", "Landmarks in CT"]
    assert lists[1].GetParentTransformNode() is moving.GetParentTransformNode()
    selection = scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    for turn in range(6):
        side = turn % 2
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        assert selection.GetActivePlaceNodeID() == lists[side].GetID()
        assert views[0].GetBackgroundVolumeID() == (fixed, moving)[side].GetID()
        lists[side].AddControlPoint(vtk.vtkVector3d(turn, 2.0, 3.0))
    assert placing.pairs == 3
    names = [[node.GetNthControlPointLabel(number) for number in range(3)] for node in lists]
    assert names[0] == names[1]
    placing.close()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert views[0].GetBackgroundVolumeID() == moving.GetID()
    again = LandmarkPlacing(fixed, moving, lists)
    assert again.point_lists == lists and again.pairs == 3
    Comparison(fixed, moving).close()  # another use of the views
    assert not again.is_open and interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_a_mask_to_draw_lies_on_the_voxels_of_its_volume(scene, pair):
    _, moving = pair
    mask = new_mask(moving)
    assert mask.GetName() == "Mask of CT" and mask.GetParentTransformNode() is moving.GetParentTransformNode()
    assert mask.GetSegmentation().GetNumberOfSegments() == 1
    geometry = slicer.vtkOrientedImageData()
    text = mask.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry)
    assert geometry.GetDimensions() == moving.GetImageData().GetDimensions()
