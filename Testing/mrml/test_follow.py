"""What belongs to the moving volume follows it, by both ways, and comes back by undo."""

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import VoxelGrid, array_from_image, grid_of, map_points
from FoundationRegistrationBridge.nodes.masks import label_layers
from FoundationRegistrationBridge.nodes.resampling import resample_labels
from FoundationRegistrationBridge.nodes.spaces import composed, from_world, snapshot, to_world
from FoundationRegistrationBridge.scene.carried import carried_to_world, uncarried_to_world
from FoundationRegistrationBridge.scene.transforms import below
from nodes import FLIP, dice, image_of, linear_node, put_under, segmentation_node, state, volume_node
from registered import KINDS, Registered, halves
from volumes import GRIDS, anatomy, body_depth, empty_grid, on_grid, points_of, volume
from vtk.util.numpy_support import vtk_to_numpy

TERMINOLOGY = "Segmentation category and type~SCT^85756007^Tissue~SCT^49755003^Lesion~^^~Anatomic codes~^^~^^"


@pytest.fixture(params=KINDS)
def registered(scene, tmp_path, request):
    """A known registration; volumes without parents, under a linear one, or under a linear and a grid one."""
    return Registered(scene, tmp_path, request.param)


@pytest.mark.parametrize("own_parent", [False, True])
def test_attached_and_resampled_agree(scene, registered, own_parent):
    fixed, node = registered.fixed, registered.node
    follower = volume_node(scene, volume(empty_grid("sagittal")), "PET")
    registered.beside_moving(follower)
    if own_parent:
        put_under(follower, linear_node(scene, "PET table", angle=8.0, shift=(1.0, 0.0, 4.0)))
    parent = follower.GetParentTransformNode()
    where = registered.origins(parent)

    resampled = apply_transform([follower], node, fixed, mode="resample").created[0]
    assert resampled.GetParentTransformNode() is fixed.GetParentTransformNode()
    assert np.allclose(grid_of(resampled).ijk_to_ras, grid_of(fixed).ijk_to_ras)
    values = array_from_image(resampled.GetImageData()).ravel()
    assert np.corrcoef(values, anatomy(where))[0, 1] > 0.98
    assert image_of(follower).GetSize() == empty_grid("sagittal").GetSize()

    undo = apply_transform([follower], node, fixed, mode="attach")
    found = map_points(to_world(follower.GetParentTransformNode()), where * FLIP)
    expected = map_points(to_world(fixed.GetParentTransformNode()), points_of(image_of(fixed)) * FLIP)
    assert np.abs(found - expected).max() < 0.1
    again = apply_transform([follower], node, fixed, mode="resample").created[0]  # not carried a second time
    difference = np.abs(array_from_image(again.GetImageData()).ravel() - values)
    assert np.percentile(difference, 99) < 5.0  # of 700
    undo.undo()
    assert follower.GetParentTransformNode() is parent


def test_copy_for_another_parent_is_brought_up_to_date(scene, registered):
    follower = put_under(volume_node(scene, empty_grid("LAS")), linear_node(scene, "PET table", angle=8.0))
    apply_transform([follower], registered.node, registered.fixed, mode="attach")
    table = registered.node.GetParentTransformNode()
    registered.node.CopyContent(below(snapshot(to_world(table)), vtk.vtkTransform()))  # a later run: nothing moved
    points = points_of(empty_grid("LAS"))
    expected = map_points(uncarried_to_world(follower, registered.node), points)
    assert np.abs(map_points(to_world(follower.GetParentTransformNode()), points) - expected).max() < 0.05


def test_undo_leaves_the_scene_as_it_was(scene, registered):
    fixed, node = registered.fixed, registered.node
    labels = on_grid(halves(points_of(empty_grid("LAS"))), empty_grid("LAS"))
    segmentation = segmentation_node(scene, labels, {1: "right", 2: "left"})
    markups = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    markups.AddControlPoint(vtk.vtkVector3d(1, 2, 3), "tip")
    followers = [segmentation, markups]
    for follower in followers:
        registered.beside_moving(follower)
    before = {node_id: {**row, "modified": 0} for node_id, row in state(scene).items()}
    for mode in ("attach", "resample"):
        undo = apply_transform(followers, node, fixed, mode=mode)
        undo.undo()
        undo.undo()
        assert {node_id: {**row, "modified": 0} for node_id, row in state(scene).items()} == before


def test_undo_copes_with_nodes_that_are_gone(scene, registered):
    fixed, moving, node = registered.fixed, registered.moving, registered.node
    undo = apply_transform([moving], node, fixed, mode="resample")
    scene.RemoveNode(undo.created[0])
    undo.undo()
    undo = apply_transform([moving], node, fixed, mode="attach")
    scene.Clear(False)
    undo.undo()


def tight_grid(angle):
    """Image of zeros with 1.2 mm voxels closely around the body, turned about S."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.0, 0.0, np.radians(angle))
    image = sitk.Image([60, 56, 60], sitk.sitkFloat32)
    image.SetSpacing([1.2, 1.2, 1.2])
    image.SetDirection(turn.GetMatrix())
    image.SetOrigin(turn.TransformPoint((-36.0, -36.0, -36.0)))
    return image


def on_voxels_of(volume, layer):
    """The labels of a layer at the centres of the voxels of a volume, (z, y, x); 0 outside."""
    grid = grid_of(volume)
    voxels = np.indices(grid.dimensions).reshape(3, -1)
    to_layer = np.linalg.inv(layer.grid.ijk_to_ras) @ grid.ijk_to_ras
    i, j, k = np.rint(to_layer[:3, :3] @ voxels + to_layer[:3, 3:]).astype(int)
    inside = np.all(
        [(at >= 0) & (at < size) for at, size in zip((i, j, k), layer.grid.dimensions, strict=True)], axis=0
    )
    found = np.zeros(len(i), layer.labels.dtype)
    found[inside] = layer.labels[k[inside], j[inside], i[inside]]
    return found.reshape(grid.dimensions).T


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0])
def test_oblique_segmentation_is_neither_clipped_nor_jagged(scene, registered, angle):
    fixed, node = registered.fixed, registered.node
    grid = tight_grid(angle)
    segmentation = segmentation_node(scene, on_grid(halves(points_of(grid)), grid), {1: "right", 2: "left"})
    registered.beside_moving(segmentation)
    original = segmentation.GetSegmentation().GetSegment(segmentation.GetSegmentation().GetNthSegmentID(0))
    original.SetColor(0.2, 0.7, 0.1)
    original.SetTerminology(TERMINOLOGY)
    original.SetTag("author", "Ada")

    copy = apply_transform([segmentation], node, fixed, mode="resample", suffix=" on MRI").created[0]
    assert copy.GetName() == "segmentation on MRI"
    assert copy.GetParentTransformNode() is fixed.GetParentTransformNode()
    expected = registered.on_fixed(halves(registered.origins(registered.parent)))
    (layer,) = label_layers(copy)
    divided = (np.linalg.inv(layer.grid.ijk_to_ras) @ grid_of(fixed).ijk_to_ras)[:3, :3]
    assert np.allclose(divided, np.diag(np.rint(np.diag(divided))))  # voxels of 1, 2 and 4 mm in whole parts
    assert np.abs(np.linalg.det(layer.grid.ijk_to_ras[:3, :3])) < 1.2**3
    labels = on_voxels_of(fixed, layer)
    names = {copy.GetSegmentation().GetSegment(name).GetName(): value for value, name in layer.segment_ids.items()}
    for name, label in (("right", 1), ("left", 2)):
        assert dice(labels == names[name], expected == label) > 0.96  # drawn on voxels of 1.2 mm
    segment = copy.GetSegmentation().GetSegment(copy.GetSegmentation().GetNthSegmentID(0))
    assert segment.GetColor() == (0.2, 0.7, 0.1)
    assert segment.GetTerminology() == TERMINOLOGY
    tag = vtk.reference("")
    assert segment.GetTag("author", tag)
    assert str(tag) == "Ada"


def test_overlapping_segments_stay_whole(scene, registered):
    fixed, node = registered.fixed, registered.node
    points = points_of(empty_grid("LAS"))
    body = (body_depth(points) > 0).astype(np.uint8)
    core = (body_depth(points) > 8.0).astype(np.uint8)
    segmentation = segmentation_node(scene, on_grid(body, empty_grid("LAS")), {1: "body"})
    other = segmentation_node(scene, on_grid(core, empty_grid("LAS")), {1: "core"})
    inner = other.GetSegmentation().GetNthSegmentID(0)
    segmentation.GetSegmentation().CopySegmentFromSegmentation(other.GetSegmentation(), inner)
    segmentation.GetSegmentation().AddEmptySegment("empty", "empty")
    registered.beside_moving(segmentation)
    copy = apply_transform([segmentation], node, fixed, mode="resample").created[0]
    depth = registered.on_fixed(body_depth(registered.origins(registered.parent)))
    found = {}
    for layer in label_layers(copy):
        for label, segment_id in layer.segment_ids.items():
            found[copy.GetSegmentation().GetSegment(segment_id).GetName()] = on_voxels_of(fixed, layer) == label
    assert dice(found["body"], depth > 0) > 0.97
    assert dice(found["core"], depth > 8.0) > 0.95
    assert copy.GetSegmentation().GetNumberOfSegments() == 3


def test_label_map_gets_no_new_labels(scene, registered):
    fixed, node = registered.fixed, registered.node
    labels = halves(points_of(empty_grid("LAS"))) * 200
    labelmap = volume_node(scene, on_grid(labels, empty_grid("LAS")), "atlas", "vtkMRMLLabelMapVolumeNode")
    registered.beside_moving(labelmap)
    copy = apply_transform([labelmap], node, fixed, mode="resample").created[0]
    assert copy.GetClassName() == "vtkMRMLLabelMapVolumeNode"
    found = array_from_image(copy.GetImageData())
    assert set(np.unique(found)) == {0, 200, 400}
    expected = halves(registered.origins(registered.parent)).reshape(found.shape) * 200
    assert (found != expected)[expected > 0].mean() < 0.04


def test_colour_volume_keeps_its_components(scene, registered):
    fixed, node = registered.fixed, registered.node
    grey = volume(empty_grid("oblique"))
    colour = sitk.Compose(
        [sitk.Cast(channel, sitk.sitkUInt8) for channel in (grey / 4.0, grey / 5.0, grey * 0.0 + 9.0)]
    )
    rgb = volume_node(scene, colour, "rgb", "vtkMRMLVectorVolumeNode")
    registered.beside_moving(rgb)
    copy = apply_transform([rgb], node, fixed, mode="resample").created[0]
    values = array_from_image(copy.GetImageData()).astype(float)
    expected = anatomy(registered.origins(registered.parent)) / 4.0
    assert values.shape[3] == 3
    assert np.corrcoef(values[..., 0].ravel(), expected)[0, 1] > 0.98
    assert set(np.unique(values[..., 2])) <= {0.0, 9.0}


@pytest.mark.parametrize("class_name", ["Fiducial", "Line", "ClosedCurve", "Plane", "ROI"])
def test_markups_move_point_by_point(scene, registered, class_name):
    fixed, node = registered.fixed, registered.node
    markups = scene.AddNewNodeByClass(f"vtkMRMLMarkups{class_name}Node", "drawn")
    registered.beside_moving(markups)
    drawn = [(5.0, -12.0, 9.0), (14.0, 6.0, -7.0), (-9.0, 8.0, 3.0)]
    drawn = drawn[: {"Line": 2, "Plane": 1, "ROI": 1}.get(class_name, 3)]
    for number, point in enumerate(drawn):
        markups.AddControlPoint(vtk.vtkVector3d(point), f"point {number}")
    copy = apply_transform([markups], node, fixed, mode="resample").created[0]
    to_fixed = composed(carried_to_world(markups, node), from_world(fixed.GetParentTransformNode()))
    expected = map_points(to_fixed, np.array(drawn))
    found = [copy.GetNthControlPointPosition(number) for number in range(copy.GetNumberOfControlPoints())]
    assert np.abs(found - expected).max() < 1e-3
    assert copy.GetNthControlPointLabel(0) == "point 0"
    assert copy.GetParentTransformNode() is fixed.GetParentTransformNode()
    assert np.allclose([markups.GetNthControlPointPosition(n) for n in range(len(drawn))], drawn)
    if class_name == "Line":
        copy.GetMeasurement("length").SetEnabled(True)
        assert copy.GetMeasurement("length").GetValue() == pytest.approx(
            np.linalg.norm(expected[1] - expected[0]), 1e-3
        )


def test_model_moves_with_its_normals(scene, registered):
    fixed, node = registered.fixed, registered.node
    source = vtk.vtkSphereSource()
    source.SetCenter(6.0, -4.0, 8.0)
    source.SetRadius(9.0)
    source.SetThetaResolution(40)
    source.SetPhiResolution(40)
    source.Update()
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "lesion")
    model.SetAndObservePolyData(source.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0.9, 0.1, 0.1)
    registered.beside_moving(model)
    copy = apply_transform([model], node, fixed, mode="resample").created[0]
    to_fixed = composed(carried_to_world(model, node), from_world(fixed.GetParentTransformNode()))
    points = vtk_to_numpy(copy.GetPolyData().GetPoints().GetData())
    assert np.abs(points - map_points(to_fixed, vtk_to_numpy(model.GetPolyData().GetPoints().GetData()))).max() < 1e-3
    normals = vtk_to_numpy(copy.GetPolyData().GetPointData().GetNormals())
    outward = points - points.mean(0)
    assert ((normals * outward).sum(1) > 0).all()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-3)
    assert copy.GetDisplayNode().GetColor() == (0.9, 0.1, 0.1)
    assert copy.GetDisplayNode() is not model.GetDisplayNode()


def test_segmentation_drawn_as_surface_stays_one(scene, registered):
    fixed, node = registered.fixed, registered.node
    source = vtk.vtkSphereSource()
    source.SetRadius(15.0)
    source.SetThetaResolution(60)
    source.SetPhiResolution(60)
    source.Update()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "contours")
    segmentation.CreateDefaultDisplayNodes()
    registered.beside_moving(segmentation)
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentation.AddSegmentFromClosedSurfaceRepresentation(source.GetOutput(), "ball", (0.0, 1.0, 0.0))
    copy = apply_transform([segmentation], node, fixed, mode="resample").created[0]
    assert copy.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    copy.CreateBinaryLabelmapRepresentation()
    (layer,) = label_layers(copy)
    where = registered.origins(registered.parent)
    inside = registered.on_fixed(np.linalg.norm(where, axis=1) < 15.0)
    full = resample_labels(
        (layer.labels != 0).astype(np.uint8), layer.grid, grid_of(fixed), vtk.vtkGeneralTransform()
    )
    assert dice(full, inside) > 0.93


def test_node_that_cannot_follow_changes_nothing(scene, registered):
    fixed, moving, node = registered.fixed, registered.moving, registered.node
    camera, tensor = (
        scene.AddNewNodeByClass("vtkMRMLTextNode"),
        scene.AddNewNodeByClass("vtkMRMLDiffusionTensorVolumeNode"),
    )
    before = set(state(scene))
    for mode, unsuitable in (("resample", tensor), ("resample", camera), ("attach", node)):
        with pytest.raises(BridgeError, match=r"resampled|put under"):
            apply_transform([moving, unsuitable], node, fixed, mode=mode)
        assert set(state(scene)) == before
        assert moving.GetParentTransformNode() is node.GetParentTransformNode()


@pytest.mark.parametrize("target", list(GRIDS))
def test_label_resampling_agrees_with_simpleitk(target):
    source_image = on_grid(halves(points_of(empty_grid("oblique"))), empty_grid("oblique"))
    transform = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3, (3, -2, 5))
    target_image = empty_grid(target)
    expected = sitk.Resample(source_image, target_image, transform, sitk.sitkLabelLinear, 0)
    flip = np.diag([*FLIP, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    to_source = vtk.vtkTransform()
    to_source.SetMatrix((flip @ matrix @ flip).ravel().tolist())
    grids = []
    for image in (source_image, target_image):
        geometry = np.eye(4)
        geometry[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        geometry[:3, 3] = image.GetOrigin()
        grids.append(VoxelGrid(image.GetSize(), flip @ geometry))
    found = resample_labels(sitk.GetArrayFromImage(source_image), *grids, to_source)
    assert (found == sitk.GetArrayFromImage(expected)).mean() > 0.9999
