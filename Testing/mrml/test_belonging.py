"""What may move along with the moving volume, and how far volumes lie apart, on real nodes in real places."""

import numpy as np
import pytest
import slicer
import vtk
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.bounds import gap_mm, world_bounds
from FoundationRegistrationBridge.nodes.modality import modality_of, mr_sequences, study_date_of
from FoundationRegistrationBridge.nodes.pet_units import mark_as_suv
from FoundationRegistrationBridge.scene.belonging import movable_with
from FoundationRegistrationBridge.scene.marks import refer
from FoundationRegistrationBridge.scene.transforms import name_run
from nodes import segmentation_node, volume_node
from volumes import empty_grid, on_grid, points_of, volume


@pytest.fixture
def hierarchy(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


@pytest.fixture
def pair(scene):
    """A fixed and a moving volume at the same place, on differing oblique grids."""
    return tuple(volume_node(scene, volume(empty_grid(name)), name) for name in ("oblique", "anisotropic"))


def points(scene, name, *positions):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for position in positions:
        node.AddControlPoint(vtk.vtkVector3d(position))
    return node


def moved(scene, node, *shift):
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "shift")
    matrix = vtk.vtkTransform()
    matrix.Translate(shift)
    transform.SetMatrixTransformToParent(matrix.GetMatrix())
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_what_overlaps_is_offered_where_it_lies_in_the_world(scene, pair):
    fixed, moving = pair
    offered = movable_with(fixed, moving)
    near, far = points(scene, "near", (1.0, 2.0, 3.0)), points(scene, "far", (500.0, 0.0, 0.0))
    assert offered(near) and offered(moving) and not offered(far) and not offered(fixed)
    moved(scene, far, -500.0, 0.0, 0.0)
    moved(scene, near, 0.0, 700.0, 0.0)
    assert offered(far) and not offered(near)
    moved(scene, moving, 0.0, 700.0, 0.0)
    offered = movable_with(fixed, moving)
    assert offered(near) and not offered(far)
    assert movable_with(fixed, None)(far), "without a moving volume, there is nothing to choose by"


def test_folders_studies_and_the_volume_drawn_on_say_whose_a_node_is(scene, pair, hierarchy):
    fixed, moving = pair
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Ada")
    studies = [hierarchy.CreateStudyItem(patient, date) for date in ("today", "last year")]
    for study, node in zip(studies, pair, strict=True):
        hierarchy.CreateItem(study, node)
    offered = movable_with(fixed, moving)
    of_fixed, of_moving = points(scene, "of fixed", (0.0, 0.0, 0.0)), points(scene, "of moving", (900.0, 0.0, 0.0))
    folder = hierarchy.CreateFolderItem(studies[1], "lesions")
    hierarchy.CreateItem(studies[0], of_fixed)
    hierarchy.CreateItem(folder, of_moving)
    assert not offered(of_fixed), "it overlaps, but is of the fixed study"
    assert offered(of_moving), "it lies elsewhere, but is of the moving study"
    elsewhere = points(scene, "of the patient", (0.0, 0.0, 0.0))
    hierarchy.CreateItem(patient, elsewhere)
    assert offered(elsewhere), "what both share decides nothing"
    for node, mine in ((fixed, False), (moving, True)):
        drawn = segmentation_node(
            scene,
            on_grid(np.ones(len(points_of(empty_grid("LPS"))), np.uint8), empty_grid("LPS")),
            {1: "breast"},
            "S",
        )
        drawn.SetReferenceImageGeometryParameterFromVolumeNode(node)
        assert offered(drawn) is mine


def test_what_registrations_made_is_not_offered_again(scene, pair):
    fixed, moving = pair
    result = scene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    name_run(result, fixed, moving)
    clips = points(scene, "clips", (1.0, 2.0, 3.0))
    made = apply_transform([clips], result, fixed, mode="resample").created[0]
    features = volume_node(scene, volume(empty_grid("LPS")), "features")
    refer(features, result)
    apply_transform([moving], result, fixed, mode="attach")
    offered = movable_with(fixed, moving)
    assert not offered(made) and not offered(features) and not offered(result)
    assert offered(clips) and offered(moving), "what is under the result still belongs to the moving side"


def test_gap_between_boxes(scene, pair):
    fixed, moving = (world_bounds(node) for node in pair)
    assert gap_mm(fixed, moving) == 0.0 and gap_mm(fixed, None) == 0.0
    assert gap_mm((0, 1, 0, 1, 0, 1), (4, 5, 5, 6, 0, 1)) == pytest.approx(5.0)
    assert gap_mm((4, 5, 5, 6, 0, 1), (0, 1, 0, 1, 0, 1)) == pytest.approx(5.0)
    assert world_bounds(points(scene, "none yet")) is None and world_bounds(None) is None


def test_modality_is_told_by_dicom_units_names_and_values_in_this_order(scene, pair, hierarchy):
    node = pair[0]
    assert modality_of(node) == ""
    air = slicer.util.arrayFromVolume(node)
    air[0, 0, 0] = -1000.0
    slicer.util.arrayFromVolumeModified(node)
    assert modality_of(node) == "CT"
    node.SetName("3: t2_tse axial")
    assert modality_of(node) == "MR" and mr_sequences(node) == {"T2"}
    node.SetName("PET-CT low dose")  # says both: the values decide
    assert modality_of(node) == "CT"
    mark_as_suv(node)
    assert modality_of(node) == "PET"
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert modality_of(node) == "MR"
    node.SetAttribute("DICOM.Modality", "CT")
    assert modality_of(node) == "CT"
    assert study_date_of(node) == ""
