"""What a run leaves in the scene: named after the registration, renewed with it, in one folder; and the way back."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.follow.directions import transform_nodes
from FoundationRegistrationBridge.run.files_to_nodes import registered_volume_of
from known_run import at, ijk_to_ras, in_world, points_node, resampled, rigid, run_known, transform, volume, world
from nodes import segmentation_node, state
from registered import halves
from volumes import empty_grid, on_grid, points_of


@pytest.fixture
def pair(scene):
    """Volumes on oblique, anisotropic grids, each under a parent."""
    rng = np.random.default_rng(5)
    parents = [transform(scene, name, rigid(rng, 10.0)) for name in ("bed", "table")]
    return volume(scene, "MRI", rng, parents[0]), volume(scene, "CT", rng, parents[1])


def with_maps(folder, names=("jacobian.nii.gz", "expected_error_mm.nrrd"), value=1.0):
    """Leave maps in a folder as the engine would have."""
    for name in names:
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5, 6), value, np.float32)), str(folder / name))


def register(scene, tmp_path, pair, matrix, maps, **inputs):
    folder = tmp_path / "prepared"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    with_maps(folder, **maps)
    job = run_known(tmp_path, matrix, scene, **{"fixed": pair[0], "moving": pair[1], "create_volume": True, **inputs})
    assert job.error is None
    return job.outputs


def folder_of(scene, node):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return tree.GetItemName(tree.GetItemParent(tree.GetItemByDataNode(node)))


def test_outputs_have_the_name_of_their_registration_and_are_renewed_with_it(scene, tmp_path, pair):
    rng = np.random.default_rng(6)
    first = register(scene, tmp_path, pair, rigid(rng), {})
    assert first.transform_node.GetName() == "CT to MRI"
    assert first.inverse_node.GetName() == "CT to MRI (inverse)"
    assert first.volume_node.GetName() == "CT to MRI: registered volume"
    assert first.jacobian_node.GetName() == "CT to MRI: Jacobian determinant"
    assert first.expected_error_node.GetName() == "CT to MRI: expected error (mm)"
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    again = register(
        scene,
        tmp_path,
        pair,
        rigid(rng),
        {"names": ("jacobian.nii.gz",), "value": 2.0},
        output_transform=first.transform_node,
    )
    assert again.volume_node is first.volume_node and again.inverse_node is first.inverse_node
    assert again.jacobian_node is first.jacobian_node
    assert slicer.util.arrayFromVolume(first.jacobian_node).max() == 2.0
    assert again.expected_error_node is None
    assert first.expected_error_node.GetName() == "CT to MRI: expected error (mm) (earlier run)"
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count
    other = register(scene, tmp_path, pair, rigid(rng), {})
    assert other.jacobian_node is not first.jacobian_node
    assert other.jacobian_node.GetName() == f"{other.transform_node.GetName()}: Jacobian determinant"
    assert other.volume_node.GetName() == f"{other.transform_node.GetName()}: registered volume"


def test_registered_volume_is_renewed_unless_it_is_an_input_or_another_is_chosen(scene, tmp_path, pair):
    rng = np.random.default_rng(11)
    first = register(scene, tmp_path, pair, rigid(rng), {})
    transform, volumes = first.transform_node, [first.volume_node]
    voxels = slicer.util.arrayFromVolume(first.volume_node).copy()

    again = register(scene, tmp_path, (pair[0], first.volume_node), rigid(rng), {}, output_transform=transform)
    volumes.append(again.volume_node)
    assert np.array_equal(slicer.util.arrayFromVolume(first.volume_node), voxels), "it was the moving volume"
    own = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    given = register(scene, tmp_path, pair, rigid(rng), {}, output_transform=transform, output_volume=own)
    assert given.volume_node is own and own.GetName() == "mine"
    names = [node.GetName() for node in volumes]
    assert names == [f"CT to MRI: registered volume{end}" for end in (" (earlier run)", "_1 (earlier run)")]
    without = register(scene, tmp_path, pair, rigid(rng), {}, output_transform=transform, create_volume=False)
    assert without.volume_node is None and own.GetName() == "mine", "a node of the user is never renamed"


def test_registered_volume_that_another_registration_uses_is_not_overwritten(scene, tmp_path, pair):
    rng = np.random.default_rng(8)
    first = register(scene, tmp_path, pair, rigid(rng), {})
    used = first.volume_node
    register(scene, tmp_path, (used, volume(scene, "PET", rng, None)), rigid(rng), {})
    before = slicer.util.arrayFromVolume(used).copy()
    again = register(scene, tmp_path, pair, rigid(rng), {}, output_transform=first.transform_node)
    assert again.transform_node is first.transform_node and again.volume_node is not used
    assert np.array_equal(slicer.util.arrayFromVolume(used), before)


def test_each_registration_has_one_folder_beside_the_fixed_volume(scene, tmp_path, pair):
    rng = np.random.default_rng(7)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "today")
    tree.CreateItem(study, pair[0])
    first, second = (register(scene, tmp_path, pair, rigid(rng), {}) for _ in range(2))
    for outputs, name in ((first, "CT to MRI"), (second, second.transform_node.GetName())):
        made = (outputs.transform_node, outputs.inverse_node, outputs.volume_node, outputs.jacobian_node)
        assert {folder_of(scene, node) for node in made} == {name}
        folder = tree.GetItemParent(tree.GetItemByDataNode(outputs.transform_node))
        assert tree.GetItemParent(folder) == study
    assert folder_of(scene, pair[0]) == "today"
    clips = points_node(scene, "clips", rng.uniform(-9, 9, (3, 3)), pair[1].GetParentTransformNode())
    own = tree.CreateFolderItem(tree.GetSceneItemID(), "kept here")
    tree.SetItemParent(tree.GetItemByDataNode(first.volume_node), own)
    (copy,) = transform_nodes([clips], first.transform_node, "resample", "moving to fixed").created
    assert folder_of(scene, copy) == "CT to MRI" and not tree.GetItemByDataNode(clips)
    register(scene, tmp_path, pair, rigid(rng), {}, output_transform=first.transform_node)
    assert folder_of(scene, first.volume_node) == "kept here", "what the user has moved stays there"
    assert tree.GetItemByName("CT to MRI_1") and not tree.GetItemByName("CT to MRI_2")


def test_surfaces_of_a_segmentation_are_carried_too(scene, tmp_path, pair):
    outputs = register(scene, tmp_path, pair, rigid(np.random.default_rng(8)), {})
    grid = empty_grid("LAS")
    plain, shown = (segmentation_node(scene, on_grid(halves(points_of(grid)), grid), {1: "a", 2: "b"}) for _ in "ab")
    shown.GetSegmentation().SetConversionParameter("Smoothing factor", "0.25")
    shown.CreateClosedSurfaceRepresentation()
    copies = apply_transform([plain, shown], outputs.transform_node, pair[0], mode="resample").created
    has = [copy.GetSegmentation().ContainsRepresentation("Closed surface") for copy in copies]
    assert has == [False, True]
    segmentation = copies[1].GetSegmentation()
    assert segmentation.GetSourceRepresentationName() == "Binary labelmap"
    assert segmentation.GetConversionParameter("Smoothing factor") == "0.25"
    surface = segmentation.GetNthSegment(0).GetRepresentation("Closed surface")
    assert surface.GetNumberOfPoints() > 0


@pytest.mark.parametrize("attached", [False, True])
def test_what_belongs_to_the_fixed_volume_comes_to_the_moving_one(scene, tmp_path, pair, attached):
    """Also if the moving volume hangs under the registration: it then lies on the fixed one, and so must the copy."""
    rng = np.random.default_rng(9)
    fixed, moving = pair
    matrix = rigid(rng)
    outputs = register(scene, tmp_path, pair, matrix, {})
    matrix_before = world(moving.GetParentTransformNode())
    if attached:
        moving.SetAndObserveTransformNodeID(outputs.transform_node.GetID())
    points = points_node(scene, "nipples", rng.uniform(-9, 9, (4, 3)), fixed.GetParentTransformNode())
    before = in_world(points)
    undo = transform_nodes([points, fixed], outputs.transform_node, "resample", "fixed to moving")
    copy, picture = undo.created
    assert copy.GetName() == "nipples on CT" and copy.GetParentTransformNode() is moving.GetParentTransformNode()
    expected = before if attached else at(matrix, before)
    assert np.abs(in_world(copy) - expected).max() < 0.02
    size = moving.GetImageData().GetDimensions()[::-1]
    moving_to_world = matrix_before @ ijk_to_ras(moving)
    fixed_to_world = matrix @ world(fixed.GetParentTransformNode()) @ ijk_to_ras(fixed)
    values, inside = resampled(slicer.util.arrayFromVolume(fixed), fixed_to_world, moving_to_world, size)
    assert inside.sum() > 100
    found = slicer.util.arrayFromVolume(picture)
    assert np.abs(found - values)[inside].max() < 0.02 * np.ptp(values)
    assert undo.undo() == [] and not slicer.util.getNodes("nipples on CT")


def test_direction_that_is_not_possible_is_refused_in_words(scene, tmp_path, pair):
    outputs = register(scene, tmp_path, pair, rigid(np.random.default_rng(10)), {})
    registration = outputs.transform_node
    points = points_node(scene, "nipples", np.zeros((1, 3)), pair[0].GetParentTransformNode())
    before = state(scene)
    with pytest.raises(BridgeError, match="direction must be 'moving to fixed' or 'fixed to moving'"):
        transform_nodes([points], registration, "resample", "backwards")
    with pytest.raises(BridgeError, match="'CT' is the fixed volume of 'CT to MRI \\(inverse\\)'"):
        transform_nodes([pair[1]], registration, "resample", "fixed to moving")
    assert state(scene) == before
    scene.RemoveNode(outputs.inverse_node)
    with pytest.raises(BridgeError, match="'CT to MRI' has no inverse"):
        transform_nodes([points], registration, "attach", "fixed to moving")
    scene.RemoveNode(pair[1])
    registration.SetNodeReferenceID("FoundationRegistration.Inverse", pair[0].GetTransformNodeID())
    with pytest.raises(BridgeError, match="'CT to MRI' has no moving volume"):
        transform_nodes([points], registration, "resample", "fixed to moving")


def test_registration_knows_its_registered_volume_until_another_overwrites_it(scene, tmp_path, pair):
    rng = np.random.default_rng(8)
    given = volume(scene, "my own", rng)
    first = register(scene, tmp_path, pair, rigid(rng), {}, output_volume=given, create_volume=False)
    own = register(scene, tmp_path, pair, rigid(rng), {})
    assert registered_volume_of(first.transform_node) is given
    assert registered_volume_of(own.transform_node) is own.volume_node
    third = register(scene, tmp_path, pair, rigid(rng), {}, output_volume=own.volume_node, create_volume=False)
    assert registered_volume_of(third.transform_node) is own.volume_node
    assert registered_volume_of(own.transform_node) is None
    again = register(scene, tmp_path, pair, rigid(rng), {}, output_transform=first.transform_node)
    assert again.volume_node is not given, "a volume of the user is overwritten only if it is given"
    assert registered_volume_of(again.transform_node) is again.volume_node
    scene.RemoveNode(again.volume_node)
    assert registered_volume_of(again.transform_node) is None
