"""Saving the displacement field of a registration, and linear registrations as linear transform nodes."""

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import map_points
from FoundationRegistrationBridge.nodes.spaces import snapshot, to_world
from FoundationRegistrationBridge.nodes.volumes import volume_in_world
from FoundationRegistrationBridge.scene.displacement_file import write_displacement_field
from FoundationRegistrationBridge.scene.transforms import below, read_transform, world_registration
from nodes import FLIP, grid_node, linear_node, put_under
from registered import Registered
from volumes import body_points, field_image, rigid_transform, through

from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.spatial.displacement import rounded

ONE_PERCENT_MM = 0.01


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ["no parents", "flipped", "linear", "grid"])
def test_the_saved_field_is_the_registration_in_the_world(scene, tmp_path, kind, ending):
    registered = Registered(scene, tmp_path, "no parents" if kind == "flipped" else kind)
    if kind == "flipped":
        registered.fixed.SetIJKToRASDirections(0, 1, 0, 1, 0, 0, 0, 0, 1)
        registered.fixed.SetOrigin(-30, -30, -30)
    path = tmp_path / f"field{ending}"
    write_displacement_field(registered.node, path)
    field = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    _, grid = volume_in_world(registered.fixed, registered.fixed.GetParentTransformNode())
    assert field.GetSize() == tuple(grid.dimensions)
    index = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 5).astype(int) for n in field.GetSize()), indexing="ij"), -1)
    index = index.reshape(-1, 3)
    points = np.array([field.TransformIndexToPhysicalPoint(i.tolist()) for i in index])
    np.testing.assert_allclose(points * FLIP, grid.ras(index), atol=ONE_PERCENT_MM)
    moved = points + [field[i.tolist()] for i in index]
    expected = map_points(world_registration(registered.node), points * FLIP) * FLIP
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    np.testing.assert_allclose(moved, expected, atol=ONE_PERCENT_MM)


def test_what_has_no_field_is_refused_in_words(scene, tmp_path):
    registered = Registered(scene, tmp_path, "no parents")
    with pytest.raises(BridgeError, match="end the name in"):
        write_displacement_field(registered.node, tmp_path / "field.tfm")
    put_under(registered.fixed, grid_node(scene))
    with pytest.raises(BridgeError, match="bends its voxel grid"):
        write_displacement_field(registered.node, tmp_path / "field.nii.gz")
    scene.RemoveNode(registered.fixed)
    with pytest.raises(BridgeError, match="has no fixed volume"):
        write_displacement_field(registered.node, tmp_path / "field.nii.gz")
    assert not (tmp_path / "field.nii.gz").exists()


def test_slicer_reads_a_compressed_transform_like_any_other(scene, tmp_path):
    transform = sitk.CompositeTransform([rigid_transform(), sitk.DisplacementFieldTransform(rounded(field_image()))])
    write_transform(transform, tmp_path / "small.h5")
    sitk.WriteTransform(transform, str(tmp_path / "large.h5"))
    assert (tmp_path / "small.h5").stat().st_size < (tmp_path / "large.h5").stat().st_size / 3
    points = body_points(step_mm=8.0)
    small, large = (map_points(read_transform(tmp_path / name), points * FLIP) for name in ("small.h5", "large.h5"))
    np.testing.assert_array_equal(small, large)
    assert (
        np.linalg.norm(small * FLIP - through(transform, points), axis=1).max() < 0.1
    )  # Slicer interpolates by cubics


@pytest.mark.parametrize("parent", ["none", "linear", "grid"])
def test_a_linear_registration_becomes_a_linear_transform_node(scene, tmp_path, parent):
    sitk.WriteTransform(sitk.CompositeTransform([rigid_transform()]), str(tmp_path / "transform.h5"))
    above = {"none": None, "linear": linear_node(scene), "grid": grid_node(scene)}[parent]
    node = below(snapshot(to_world(above)), read_transform(tmp_path / "transform.h5"))
    assert node.IsA("vtkMRMLLinearTransformNode") == (parent != "grid")
    if parent == "none":
        points = np.random.default_rng(0).normal(size=(20, 3)) * 40
        mapped = map_points(node.GetTransformFromParent(), points)
        np.testing.assert_allclose(mapped, through(rigid_transform(), points * FLIP) * FLIP, atol=1e-4)
