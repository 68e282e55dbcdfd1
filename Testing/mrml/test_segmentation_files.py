"""Segmentations that 3D Slicer writes go through the engine's commands and come back as Slicer knows them."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from FoundationRegistrationBridge.nodes.masks import label_layers
from nodes import FLIP, segmentation_node
from volumes import empty_grid, on_grid, points_of, rigid_transform, through

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.transforms import write_transform

TERMINOLOGY = "Segmentation category and type~SCT^85756007^Tissue~SCT^49755003^Lesion~^^~Anatomic codes~^^~^^"
# Name: centre (LPS mm in moving space) and radius; the last overlaps the first.
BALLS = {"lésion 1": ((8.0, -6.0, 10.0), 9.0), "node": ((-12.0, 8.0, -9.0), 7.0), "margin": ((8.0, -6.0, 10.0), 13.0)}


@pytest.fixture
def registration(tmp_path):
    """The folder of a registration whose truth is known: a rigid motion, and the two volumes' grids."""
    write_transform(rigid_transform(), tmp_path / "transform.h5")
    write_transform(rigid_transform().GetInverse(), tmp_path / "inverse.h5")
    sitk.WriteImage(empty_grid("oblique"), str(tmp_path / "fixed.nii.gz"))
    return tmp_path


def segmentation(scene, names, motion=None, grid_name="sagittal"):
    """Node with the named balls, and with a colour and terminology for the first."""
    grid = empty_grid(grid_name)
    points = points_of(grid) if motion is None else through(motion, points_of(grid))
    nodes = []
    for name in names:
        center, radius = BALLS[name]
        inside = np.linalg.norm(points - center, axis=1) < radius
        nodes.append(segmentation_node(scene, on_grid(inside.astype(np.uint8), grid), {1: name}))
    node = nodes[0]
    for other in nodes[1:]:
        inner = other.GetSegmentation().GetNthSegmentID(0)
        node.GetSegmentation().CopySegmentFromSegmentation(other.GetSegmentation(), inner)
    first = node.GetSegmentation().GetNthSegment(0)
    first.SetColor(0.25, 0.5, 0.75)
    first.SetTag("TerminologyEntry", TERMINOLOGY)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node


def saved(scene, node, path):
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


def loaded(scene, path):
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(node)
    return node


def centers_and_volumes(node):
    """By name of a segment: the centre of its voxels, LPS mm, and their volume."""
    found = {}
    for layer in label_layers(node):
        matrix = layer.grid.ijk_to_ras
        for label, segment_id in layer.segment_ids.items():
            index = np.argwhere(layer.labels == label)[:, ::-1]
            points = (index @ matrix[:3, :3].T + matrix[:3, 3]) * FLIP
            size = len(points) * abs(np.linalg.det(matrix[:3, :3]))
            found[node.GetSegmentation().GetSegment(segment_id).GetName()] = points.mean(0), size
    return found


@pytest.mark.parametrize(
    "names", [("lésion 1", "node"), ("lésion 1", "node", "margin")], ids=["apart", "overlapping"]
)
def test_names_colours_and_terminology_are_carried(scene, registration, names):
    node = segmentation(scene, names)
    source = saved(scene, node, registration / "moving.seg.nrrd")
    output = registration / "carried.seg.nrrd"
    command = ["apply", str(registration), "--labels", str(source), "--reference", str(registration / "fixed.nii.gz")]
    assert main([*command, "--output", str(output)]) == 0
    carried = loaded(scene, output)
    segments = carried.GetSegmentation()
    assert [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())] == list(names)
    first, tag = segments.GetNthSegment(0), vtk.reference("")
    np.testing.assert_allclose(first.GetColor(), (0.25, 0.5, 0.75), atol=1e-6)
    assert first.GetTag("TerminologyEntry", tag)
    assert str(tag) == TERMINOLOGY
    found = centers_and_volumes(carried)
    back = rigid_transform().GetInverse()
    for name in names:
        center, radius = BALLS[name]
        there, size = found[name]
        np.testing.assert_allclose(there, back.TransformPoint(center), atol=0.4)
        assert size == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)


def test_overlapping_segments_are_measured_by_name(scene, registration, capsys):
    """In another order on the other side, and overlapping: each structure by its name."""
    fixed = segmentation(scene, ("margin", "node", "lésion 1"), rigid_transform(), "LAS")
    moving = segmentation(scene, ("lésion 1", "margin", "node"))
    command = ["evaluate", str(registration), "--json"]
    command += ["--fixed-labels", str(saved(scene, fixed, registration / "f.seg.nrrd"))]
    command += ["--moving-labels", str(saved(scene, moving, registration / "m.seg.nrrd"))]
    assert main(command) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["labels"]["labels"]}
    assert set(rows) == set(BALLS)
    for row in rows.values():
        assert row["dice_after"] > 0.9
        assert row["dice_before"] < row["dice_after"] - 0.05


def test_what_moves_out_of_the_voxels_that_slicer_saved_counts(scene, registration, capsys):
    """Slicer crops the fixed ball closely; the moving one lies half beside it, which must not look better."""
    fixed, moving = empty_grid("LAS"), empty_grid("sagittal")
    write_transform(sitk.TranslationTransform(3, (0.0, 8.0, 0.0)), registration / "transform.h5")
    node = segmentation(scene, ("node",), grid_name="LAS")
    command = ["evaluate", str(registration), "--json"]
    command += ["--fixed-labels", str(saved(scene, node, registration / "f.seg.nrrd"))]
    moving_file = saved(scene, segmentation(scene, ("node",)), registration / "m.seg.nrrd")
    command += ["--moving-labels", str(moving_file)]
    assert main(command) == 0
    assert "do not count" in capsys.readouterr().err
    keys = {"size": "GetSize", "spacing": "GetSpacing", "origin": "GetOrigin", "direction": "GetDirection"}
    record = {
        side: {key: list(getattr(image, get)()) for key, get in keys.items()}
        for side, image in (("fixed", fixed), ("moving", moving))
    }
    (registration / "report.json").write_text(json.dumps(record))
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.err == ""
    center, radius = BALLS["node"]
    there = np.linalg.norm(points_of(fixed) - np.subtract(center, (0.0, 8.0, 0.0)), axis=1) < radius
    here = np.linalg.norm(points_of(fixed) - center, axis=1) < radius
    truth = 2.0 * (here & there).sum() / (here.sum() + there.sum())
    [row] = json.loads(said.out)["labels"]["labels"]
    assert row["dice_after"] == pytest.approx(truth, abs=0.03)
    assert row["dice_before"] > 0.9


def test_a_segmentation_as_slicer_saves_it_is_a_mask(scene, registration, tmp_path):
    """Slicer writes the voxels around the segments only; the mask has those of its volume again."""
    from FoundationRegistrationLib.io.segmentation_files import read_segmentation

    names = ("lésion 1", "node", "margin")
    source = saved(scene, segmentation(scene, names), tmp_path / "mask.seg.nrrd")
    assert np.prod(sitk.ReadImage(str(source)).GetSize()) < np.prod(empty_grid("sagittal").GetSize())
    messages = []
    labels = read_segmentation(source, "moving mask", messages)
    mask = labels.on_grid_of(empty_grid("sagittal"), "moving mask", messages).label_map()
    points = points_of(empty_grid("sagittal"))
    expected = np.zeros(len(points), bool)
    for center, radius in BALLS.values():
        expected |= np.linalg.norm(points - center, axis=1) < radius
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).ravel() != 0, expected)
    assert messages == []
