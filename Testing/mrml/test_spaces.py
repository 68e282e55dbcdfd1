"""Where nodes are in the world, and where a registration brings them."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.nodes.grids import map_points
from FoundationRegistrationBridge.nodes.spaces import snapshot, to_world
from FoundationRegistrationBridge.nodes.volumes import volume_in_world, write_volume
from FoundationRegistrationBridge.scene.carried import carried_to_world
from FoundationRegistrationBridge.scene.transforms import below, read_transform, write_initial_transform
from nodes import FLIP, grid_node, image_of, linear_node, put_under, volume_node
from volumes import GRIDS, anatomy, body_points, empty_grid, field_transform, points_of, through, volume

POINTS = body_points(step_mm=9.0) * FLIP


@pytest.fixture
def registration_file(tmp_path):
    """A composite as the engine writes it, and the SimpleITK transform itself: fixed to moving points."""
    transform = sitk.CompositeTransform(
        [sitk.Euler3DTransform((0, 0, 0), 0.1, -0.05, 0.12, (4, -3, 2)), field_transform()]
    )
    transform.FlattenTransform()
    sitk.WriteTransform(transform, str(tmp_path / "transform.h5"))
    return tmp_path / "transform.h5", transform


def test_file_read_as_node_agrees_with_simpleitk(registration_file):
    path, transform = registration_file
    node = slicer.vtkMRMLTransformNode()
    node.SetAndObserveTransformFromParent(read_transform(path))
    expected = through(transform, POINTS * FLIP) * FLIP
    assert np.abs(map_points(node.GetTransformFromParent(), POINTS) - expected).max() < 0.1  # cubic, not linear, grid
    assert np.abs(map_points(node.GetTransformToParent(), expected) - POINTS).max() < 0.1


@pytest.mark.parametrize("kind", ["none", "linear", "shared chain", "grid", "grid over linear"])
def test_registration_sits_between_the_volume_and_its_parents(scene, registration_file, kind):
    path, transform = registration_file
    parents = {
        "none": [],
        "linear": [linear_node(scene)],
        "shared chain": [linear_node(scene), linear_node(scene, angle=-40.0)],
        "grid": [grid_node(scene)],
        "grid over linear": [linear_node(scene), grid_node(scene)],
    }[kind]
    moving = volume_node(scene, empty_grid("oblique"))
    bystander = volume_node(scene, empty_grid("oblique"))
    if parents:
        put_under(moving, *parents)
        bystander.SetAndObserveTransformNodeID(parents[0].GetID())
    before = map_points(to_world(moving.GetParentTransformNode()), POINTS)
    bystander_before = map_points(to_world(bystander.GetParentTransformNode()), POINTS)

    node = below(snapshot(to_world(moving.GetParentTransformNode())), read_transform(path))
    scene.AddNode(node)
    if parents:
        node.SetAndObserveTransformNodeID(parents[0].GetID())
    announced = map_points(carried_to_world(moving, node), POINTS)
    moving.SetAndObserveTransformNodeID(node.GetID())

    after = map_points(to_world(moving.GetParentTransformNode()), POINTS)
    assert np.abs(after - announced).max() < 1e-6
    assert np.abs(map_points(carried_to_world(moving, node), POINTS) - after).max() < 1e-6  # not applied twice
    # In the world, the registration brings each point of the carried volume back to where the volume was.
    back = through(transform, after * FLIP) * FLIP
    assert np.abs(back - before).max() < 0.1
    assert np.abs(after - before).max() > 5.0
    assert np.array_equal(map_points(to_world(bystander.GetParentTransformNode()), POINTS), bystander_before)


def test_old_parent_still_acts_on_the_registered_volume(scene, registration_file):
    parent = linear_node(scene)
    node = scene.AddNode(below(snapshot(to_world(parent)), read_transform(registration_file[0])))
    moving = put_under(volume_node(scene, empty_grid()), node, parent)
    before = map_points(to_world(moving.GetParentTransformNode()), POINTS)
    shift = np.eye(4)
    shift[:3, 3] = (7.0, -2.0, 11.0)
    old = slicer.util.arrayFromTransformMatrix(parent)
    slicer.util.updateTransformMatrixFromArray(parent, shift @ old)
    after = map_points(to_world(moving.GetParentTransformNode()), POINTS)
    assert np.abs(after - before - shift[:3, 3]).max() < 1e-6


@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("kind", ["rigid", "shearing", "grid over linear"])
def test_volume_is_written_where_its_parents_put_it(scene, tmp_path, grid, kind):
    parents = {
        "rigid": lambda: [linear_node(scene), linear_node(scene, angle=-40.0, axis=(0, 1, 0))],
        "shearing": lambda: [linear_node(scene, scale=(1.0, 1.25, 0.9))],
        "grid over linear": lambda: [linear_node(scene, angle=10.0), grid_node(scene)],
    }[kind]()
    node = put_under(volume_node(scene, volume(empty_grid(grid))), *parents)
    image, voxel_grid = volume_in_world(node, node.GetParentTransformNode())
    write_volume(image, voxel_grid, tmp_path / "world.nrrd")
    written = sitk.ReadImage(str(tmp_path / "world.nrrd"))

    points = points_of(written)
    values = sitk.GetArrayFromImage(written).ravel()
    from_world = to_world(parents[0]).GetInverse()
    expected = anatomy(map_points(from_world, points * FLIP) * FLIP)
    assert np.corrcoef(values, expected)[0, 1] > (0.999 if kind == "rigid" else 0.98)
    shown, true = (points[data > expected.max() / 2].mean(0) for data in (values, expected))
    assert np.abs(shown - true).max() < (1e-3 if kind == "rigid" else 0.4)  # the latter smooths the texture
    assert node.GetImageData().GetDimensions() == empty_grid(grid).GetSize()


def test_exchanged_volume_keeps_values_type_and_geometry(scene, tmp_path):
    original = sitk.Cast(volume(empty_grid("oblique")), sitk.sitkInt16)
    node = volume_node(scene, original)
    write_volume(*volume_in_world(node, None), tmp_path / "volume.nrrd")
    written = sitk.ReadImage(str(tmp_path / "volume.nrrd"))
    assert written.GetPixelID() == sitk.sitkInt16
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(original))
    for image in (written, image_of(node)):
        assert np.allclose(image.GetOrigin(), original.GetOrigin(), atol=1e-6)
        assert np.allclose(image.GetDirection(), original.GetDirection(), atol=1e-6)


@pytest.mark.parametrize("kind", ["linear chain", "grid over linear"])
def test_initial_transform_is_written_in_the_world(scene, tmp_path, kind):
    above = linear_node(scene) if kind == "linear chain" else grid_node(scene)
    node = put_under(linear_node(scene, angle=-15.0), above)
    _, voxel_grid = volume_in_world(volume_node(scene, empty_grid("anisotropic")), None)
    write_initial_transform(node, voxel_grid, tmp_path / "initial.h5")
    read = sitk.ReadTransform(str(tmp_path / "initial.h5"))
    expected = map_points(to_world(node).GetInverse(), POINTS) * FLIP
    assert np.abs(through(read, POINTS * FLIP) - expected).max() < 0.1


@pytest.mark.parametrize("kind", ["linear", "grid"])
def test_earlier_registration_below_the_parent_of_the_moving_volume_is_a_start_that_counts_the_parent_once(
    scene, tmp_path, kind
):
    parent = linear_node(scene, "table", shift=(30.0, -10.0, 5.0)) if kind == "linear" else grid_node(scene)
    found = to_world(linear_node(scene, angle=-12.0, shift=(4.0, 3.0, -6.0)))
    node = scene.AddNode(below(to_world(parent), found))
    put_under(node, parent)
    _, voxel_grid = volume_in_world(volume_node(scene, empty_grid("anisotropic")), None)
    write_initial_transform(node, voxel_grid, tmp_path / "initial.h5", parent)
    read = sitk.ReadTransform(str(tmp_path / "initial.h5"))
    assert np.abs(through(read, POINTS * FLIP) - map_points(found, POINTS) * FLIP).max() < 0.1
