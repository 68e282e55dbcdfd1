"""The quality table says how far apart labels and landmarks are, before and after."""

import numpy as np
import pytest
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow import apply_transform
from FoundationRegistrationBridge.lattices import map_points
from FoundationRegistrationBridge.quality import quality_rows, quality_table
from FoundationRegistrationBridge.spaces import from_world, to_world
from FoundationRegistrationBridge.transforms import store_record, world_registration
from nodes import FLIP, linear_node, put_under, segmentation_node, state, volume_node
from registered import KINDS, Registered, halves
from volumes import body_points, empty_grid, on_grid, points_of

NAMES = {1: "right", 2: "left"}
RECORD = {"metrics": {"jacobian": {"folded_percent": 0.25}, "inverse_error_mm": {"mean": 0.01, "max": 0.2}}}


@pytest.fixture(params=KINDS)
def registered(scene, tmp_path, request):
    return Registered(scene, tmp_path, request.param)


@pytest.fixture
def labels(scene, registered):
    """Segmentations of the same two halves of the body on the fixed and on the moving side."""
    fixed_halves = registered.on_fixed(halves(registered.origins(registered.parent)))
    grid = empty_grid("anisotropic")
    fixed = segmentation_node(scene, on_grid(fixed_halves, grid), NAMES, "fixed labels")
    fixed.SetAndObserveTransformNodeID(registered.fixed.GetTransformNodeID())
    grid = empty_grid("LAS")
    moving = segmentation_node(scene, on_grid(halves(points_of(grid)), grid), NAMES, "moving labels")
    return fixed, registered.beside_moving(moving)


def landmarks(scene, points, parent, name):
    """Landmarks at points of the world, in a node under a parent."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for number, point in enumerate(map_points(from_world(parent), points)):
        node.AddControlPoint(vtk.vtkVector3d(point), f"L{number}")
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def by_name(rows):
    return {(row.measure, row.structure): row for row in rows}


@pytest.mark.parametrize("attached", [False, True])
def test_labels_agree_after_a_true_registration_and_not_before(registered, labels, attached):
    fixed, moving = labels
    if attached:
        apply_transform([moving], registered.node, registered.fixed, mode="attach")
    rows = by_name(quality_rows(fixed, moving, None, None, registered.node))
    fixed_halves = halves(registered.origins(registered.parent))
    for label, name in NAMES.items():
        dice, distance, volume = (rows[(measure, name)] for measure in ("Dice", "HD95", "Volume"))
        assert dice.before < 0.85
        assert dice.after > 0.92
        assert distance.before > distance.after
        assert distance.after < 4.5  # a voxel of the fixed grid
        counted = np.count_nonzero(fixed_halves == label) * 1.0 * 2.0 * 4.0 / 1000.0
        assert volume.after == pytest.approx(counted, rel=0.05)
        counted = np.count_nonzero(halves(points_of(empty_grid("LAS"))) == label) * 1.8 * 2.0 * 2.2 / 1000.0
        assert volume.before == pytest.approx(counted, rel=0.05)


def test_what_the_fixed_volume_does_not_show_does_not_count(scene, registered, labels):
    """The fixed volume ends in the middle of the structures, and so do their labels; the moving ones are whole."""
    _, moving = labels
    store_record(registered.node, RECORD, registered.fixed, registered.moving)
    cut_off = registered.on_fixed(halves(registered.origins(registered.parent))).copy()
    cut_off[: len(cut_off) // 2] = 0
    _keep_upper_half(registered.fixed)
    fixed = segmentation_node(scene, on_grid(cut_off, empty_grid("anisotropic")), NAMES, "cut off")
    fixed.SetAndObserveTransformNodeID(registered.fixed.GetTransformNodeID())
    rows = by_name(quality_rows(fixed, moving, None, None, registered.node))
    for name in NAMES.values():
        assert rows[("Dice", name)].after > 0.9
        assert rows[("HD95", name)].after < 4.5
        assert rows[("Volume", name)].after > 0.8 * rows[("Volume", name)].before, "volumes are those of the whole"


def _keep_upper_half(volume):
    """Cut away the lower half of a volume's slices; what it shows stays where it is."""
    image, kept = volume.GetImageData(), vtk.vtkExtractVOI()
    i, j, k = image.GetDimensions()
    kept.SetInputData(image)
    kept.SetVOI(0, i - 1, 0, j - 1, k // 2, k - 1)
    kept.Update()
    matrix, origin = vtk.vtkMatrix4x4(), [0.0] * 4
    volume.GetIJKToRASMatrix(matrix)
    matrix.MultiplyPoint((0.0, 0.0, k // 2, 1.0), origin)
    result = vtk.vtkImageData()
    result.DeepCopy(kept.GetOutput())
    result.SetExtent(0, i - 1, 0, j - 1, 0, k - 1 - k // 2)
    result.SetOrigin(0.0, 0.0, 0.0)
    volume.SetAndObserveImageData(result)
    volume.SetOrigin(origin[:3])


def test_equal_labels_measure_as_perfect(scene, labels):
    fixed, _ = labels
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    for row in quality_rows(fixed, fixed, None, None, still):
        if row.measure == "Dice":
            assert row.before == row.after == 1.0
        if row.measure == "HD95":
            assert row.before == row.after == 0.0


def test_far_away_structures_are_measured_or_left_out_but_never_good(scene, registered, labels):
    fixed, moving = labels
    put_under(moving, linear_node(scene, "elsewhere", shift=(4000.0, 4000.0, 4000.0)))
    rows = by_name(quality_rows(fixed, moving, None, None, registered.node))
    assert np.isnan(rows[("Dice", "left")].before)
    table = quality_table(fixed, moving, None, None, registered.node)
    assert "nan" not in [table.GetCellText(row, 2) for row in range(table.GetNumberOfRows())]


def test_landmark_error_before_and_after(scene, registered):
    points = map_points(to_world(registered.fixed.GetParentTransformNode()), body_points(step_mm=15.0) * FLIP)
    there = map_points(world_registration(registered.node), points)
    off = there + np.array([0.0, 3.0, 0.0])
    fixed = landmarks(scene, points, registered.fixed.GetParentTransformNode(), "F")
    moving = landmarks(scene, off, registered.parent, "M")
    rows = by_name(quality_rows(None, None, fixed, moving, registered.node))
    assert rows[("TRE, mean", "")].after == pytest.approx(3.0, abs=0.02)
    assert rows[("TRE, mean", "")].before == pytest.approx(np.linalg.norm(points - off, axis=1).mean(), abs=0.02)
    assert rows[("TRE, maximum", "")].after == pytest.approx(3.0, abs=0.1)
    assert rows[("TRE", "L0")].unit == "mm"


def test_label_maps_are_measured_by_label(scene):
    node = volume_node(
        scene, on_grid(halves(points_of(empty_grid())), empty_grid()), "m", "vtkMRMLLabelMapVolumeNode"
    )
    rows = quality_rows(node, node, None, None, scene.AddNewNodeByClass("vtkMRMLTransformNode"))
    assert {row.structure for row in rows} == {"label 1", "label 2"}


def test_table_has_record_and_empty_cells_where_nothing_was_before(registered, labels):
    store_record(registered.node, RECORD, registered.fixed, registered.moving)
    table = quality_table(*labels, None, None, registered.node)
    texts = [[table.GetCellText(row, column) for column in range(5)] for row in range(table.GetNumberOfRows())]
    assert ["Folded", "", "", "0.250", "%"] in texts
    assert any(text[:2] == ["Dice", "left"] and float(text[2]) < float(text[3]) for text in texts)
    assert table.GetColumnName(3) == "After"


def test_what_cannot_be_measured_is_said_and_adds_nothing(scene, registered, labels):
    fixed, _ = labels
    stranger = segmentation_node(scene, on_grid(halves(points_of(empty_grid())), empty_grid()), {1: "a", 2: "b"})
    few = landmarks(scene, np.zeros((2, 3)), None, "two")
    many = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "one")
    many.AddControlPoint(vtk.vtkVector3d(0, 0, 0), "X")
    before = set(state(scene))
    for chosen, words in (
        ((fixed, None, None, None), "both volumes"),
        ((None, None, None, few), "both volumes"),
        ((fixed, stranger, None, None), "same name"),
        ((None, None, few, many), "landmarks"),
        ((None, None, None, None), "nothing to measure"),
    ):
        with pytest.raises(BridgeError, match=words):
            quality_table(*chosen, registered.node)
    assert set(state(scene)) == before
