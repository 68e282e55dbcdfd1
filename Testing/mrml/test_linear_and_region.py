"""Linear results as linear transform nodes, ROI nodes as regions, and small segments on coarse volumes."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.masks import label_layers
from FoundationRegistrationBridge.nodes.regions import box_in_world
from FoundationRegistrationBridge.nodes.spaces import linear_matrix, to_world
from FoundationRegistrationBridge.run.job import JobInputs, RegistrationJob
from FoundationRegistrationBridge.run.nodes_to_files import export_inputs
from FoundationRegistrationBridge.scene.transforms import inverse_of
from known_run import rigid, run_known
from nodes import FLIP, grid_node, linear_node, put_under, segmentation_node, volume_node
from volumes import body_points, empty_grid, on_grid, points_of, rigid_motion, through, volume

from FoundationRegistrationLib.io.regions import read_region
from FoundationRegistrationLib.io.transforms import read_transform

SIZE, CENTER = np.array([24.0, 16.0, 20.0]), np.array([3.0, -5.0, 8.0])


def test_a_rigid_run_gives_linear_nodes_that_carry_the_moving_volume(scene):
    fixed = put_under(volume_node(scene, volume(empty_grid("oblique"), rigid_motion), "fixed"), linear_node(scene))
    moving = volume_node(scene, volume(empty_grid("anisotropic", (3, -2, 4))), "moving")
    put_under(moving, fixed.GetParentTransformNode())
    inputs = JobInputs(fixed, moving, settings={"stages": "rigid", "device": "cpu"}, maps=True)
    outputs = RegistrationJob(inputs, scene).wait()
    for node in (outputs.transform_node, inverse_of(outputs.transform_node)):
        assert node.IsA("vtkMRMLLinearTransformNode")
        assert node.IsLinear()
    matrix = linear_matrix(outputs.transform_node.GetTransformFromParent())
    points = body_points(rigid_motion)
    found = np.c_[points * FLIP, np.ones(len(points))] @ matrix.T
    assert np.linalg.norm(found[:, :3] * FLIP - rigid_motion(points), axis=1).mean() < 1.0
    assert outputs.expected_error_node is None, "it is not known"
    assert outputs.jacobian_node is not None
    assert "expected error is not known" in " ".join(outputs.messages)


def test_under_a_bent_parent_the_node_is_not_linear(scene, tmp_path):
    fixed, moving = volume_node(scene, empty_grid("LPS"), "fixed"), volume_node(scene, empty_grid("LPS"), "moving")
    put_under(moving, grid_node(scene))
    job = run_known(tmp_path, rigid(np.random.default_rng(1)), scene, fixed=fixed, moving=moving)
    assert not job.outputs.transform_node.IsLinear()
    assert inverse_of(job.outputs.transform_node).IsA("vtkMRMLLinearTransformNode"), "the fixed one has no parent"


def test_deformation_never_goes_into_a_linear_transform_node(scene, tmp_path):
    """A second run, of a volume that now has a bent parent, into the linear result of the first."""
    fixed, moving = volume_node(scene, empty_grid("LPS"), "fixed"), volume_node(scene, empty_grid("LPS"), "moving")
    first = run_known(tmp_path, rigid(np.random.default_rng(1)), scene, fixed=fixed, moving=moving).outputs
    matrix = linear_matrix(first.transform_node.GetTransformFromParent())
    put_under(moving, grid_node(scene))
    job = run_known(
        tmp_path,
        rigid(np.random.default_rng(2)),
        scene,
        fixed=fixed,
        moving=moving,
        output_transform=first.transform_node,
    )
    assert not job.outputs.transform_node.IsA("vtkMRMLLinearTransformNode")
    assert np.array_equal(linear_matrix(first.transform_node.GetTransformFromParent()), matrix)
    assert "cannot hold a deformation" in " ".join(job.outputs.messages)


def roi_node(scene, angle=35.0):
    """A turned ROI; the corners of its box in its own coordinates, RAS."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "tumour")
    node.SetSize(*SIZE)
    turned = vtk.vtkTransform()
    turned.Translate(*CENTER)
    turned.RotateWXYZ(angle, 1, 2, 3)
    node.SetAndObserveObjectToNodeMatrix(turned.GetMatrix())
    corners = [
        turned.TransformPoint(SIZE / 2 * sign) for sign in np.ndindex(2, 2, 2) for sign in [2 * np.array(sign) - 1]
    ]
    return node, np.array(corners)


def corners_of(region):
    return np.array(
        [
            region.TransformContinuousIndexToPhysicalPoint((np.array(corner) - 0.5).tolist())
            for corner in np.ndindex(2, 2, 2)
        ]
    )


def same_points(one, other):
    return all(np.linalg.norm(other - point, axis=1).min() < 1e-3 for point in one)


def test_a_roi_reaches_the_engine_as_its_box_in_the_world(scene, tmp_path):
    roi, corners = roi_node(scene)
    put_under(roi, linear_node(scene, "patient", angle=-20.0))
    world = linear_matrix(to_world(roi.GetParentTransformNode()))
    expected = (np.c_[corners, np.ones(8)] @ world.T)[:, :3] * FLIP
    fixed, moving = volume_node(scene, volume(empty_grid("LPS"))), volume_node(scene, volume(empty_grid("RAS")))
    command = export_inputs(JobInputs(fixed, moving, region=roi), tmp_path, [])
    region = read_region(command[command.index("--region") + 1], [])
    assert same_points(corners_of(region), expected)
    assert same_points(expected, corners_of(region))


def test_a_roi_that_slicer_saved_is_the_same_box(scene, tmp_path):
    roi, corners = roi_node(scene)
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    storage.SetFileName(str(tmp_path / "roi.mrk.json"))
    assert storage.WriteData(roi)
    assert same_points(corners_of(read_region(tmp_path / "roi.mrk.json", [])), corners * FLIP)


@pytest.mark.parametrize("spoil", ["empty", "bent", "sheared"])
def test_a_roi_that_is_no_box_in_the_world_is_refused(scene, spoil):
    roi, _ = roi_node(scene)
    if spoil == "empty":
        roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "empty")
    elif spoil == "bent":
        put_under(roi, grid_node(scene))
    else:
        put_under(roi, linear_node(scene, scale=(1.0, 2.0, 1.0)))
    with pytest.raises(BridgeError, match=r"draw it"):
        box_in_world(roi)


@pytest.mark.parametrize("turned", [False, True])
def test_small_segments_keep_their_volume_on_a_coarse_fixed_volume(scene, tmp_path, turned):
    """3 mm and 6 mm lesions drawn on 1 mm voxels, onto 2 x 2 x 5 mm."""
    coarse = sitk.Image([30, 30, 12], sitk.sitkFloat32)
    coarse.SetSpacing((2.0, 2.0, 5.0))
    coarse.SetOrigin((-29.0, -29.0, -27.5))
    fixed, moving = volume_node(scene, coarse, "b0"), volume_node(scene, empty_grid("LPS"), "moving")
    motion = rigid(np.random.default_rng(2), degrees=15.0, shift=3.0) if turned else np.eye(4)
    job = run_known(tmp_path, motion, scene, fixed=fixed, moving=moving)
    grid = sitk.Image([50, 50, 50], sitk.sitkFloat32)
    grid.SetOrigin((-24.3, -24.6, -24.1))
    points = points_of(grid)
    labels = np.zeros(len(points), np.uint8)
    labels[np.linalg.norm(points - [4.2, -3.1, 2.7], axis=1) < 1.5] = 1
    labels[np.linalg.norm(points - [-7.0, 6.4, -5.2], axis=1) < 3.0] = 2
    drawn = segmentation_node(scene, on_grid(labels, grid), {1: "small", 2: "larger"})
    undo = apply_transform([drawn], job.outputs.transform_node, fixed, mode="resample")
    carried = undo.created[0]
    (layer,) = label_layers(carried)
    voxel = np.prod(layer.grid.spacing)
    for label, segment_id in layer.segment_ids.items():
        name = carried.GetSegmentation().GetSegment(segment_id).GetName()
        before = np.count_nonzero(labels == {"small": 1, "larger": 2}[name])
        assert np.count_nonzero(layer.labels == label) * voxel == pytest.approx(before, rel=0.08)
        middle = layer.grid.ras(np.argwhere(layer.labels == label)[:, ::-1]).mean(0)
        expected = points[labels == {"small": 1, "larger": 2}[name]].mean(0) * FLIP
        assert np.linalg.norm((motion @ [*middle, 1.0])[:3] - expected) < 0.3
    assert any(note.startswith("'small' of 'segmentation': ") for note in undo.notes)
    geometry = carried.GetSegmentation().GetConversionParameter("Reference image geometry")
    image = slicer.vtkOrientedImageData()
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image, False)
    assert np.allclose(image.GetSpacing(), layer.grid.spacing), "editing does not make the segments coarser"


def test_a_linear_transform_that_the_engine_wrote_is_read_by_slicer(scene, tmp_path):
    euler = sitk.Euler3DTransform((10.0, -5.0, 3.0), 0.2, -0.1, 0.3, (4.0, 5.0, 6.0))
    sitk.WriteTransform(euler, str(tmp_path / "transform.h5"))
    assert read_transform(tmp_path / "transform.h5").IsLinear()
    node, storage = slicer.vtkMRMLTransformNode(), slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "transform.h5"))
    assert storage.ReadData(node)
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    matrix = linear_matrix(node.GetTransformFromParent())
    found = (np.c_[points * FLIP, np.ones(20)] @ matrix.T)[:, :3] * FLIP
    assert np.allclose(found, through(euler, points), atol=1e-4)
