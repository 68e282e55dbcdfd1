"""The quality table says how far apart labels and landmarks are, before and after."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import grid_of, map_points
from FoundationRegistrationBridge.nodes.spaces import from_world, to_world
from FoundationRegistrationBridge.quality import measures
from FoundationRegistrationBridge.quality.measures import quality_rows
from FoundationRegistrationBridge.quality.table import as_text, plot, plottable, quality_table, write_csv
from FoundationRegistrationBridge.scene.transforms import store_record, world_registration
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
    assert ("Dice", "left") not in rows
    assert ("Not measured", "left (the outlines are too large, or too far apart)") in rows
    table = quality_table(fixed, moving, None, None, registered.node)
    assert "nan" not in [table.GetCellText(row, 2) for row in range(table.GetNumberOfRows())]


@pytest.mark.parametrize("name", ["oblique", "anisotropic", "sagittal"])
def test_a_coarser_grid_has_the_same_faces(scene, name):
    grid = grid_of(volume_node(scene, empty_grid(name)))
    coarse = grid.coarser(1.7)
    assert np.prod(coarse.dimensions) < 0.3 * np.prod(grid.dimensions)
    assert np.allclose(coarse.sample_points(3), grid.sample_points(3), atol=1e-9)


def test_large_structures_are_measured_too(scene, monkeypatch):
    """Boxes of more voxels than the grid they are compared on may have, 2.4 mm apart."""
    monkeypatch.setattr(measures, "_MOST_VOXELS", 64**3)
    nodes = []
    for name, shift in (("fixed", 0), ("moving", 3)):
        box = np.zeros((72, 72, 72), np.uint8)
        box[4:66, 4 + shift : 66 + shift, 4:66] = 1
        image = sitk.GetImageFromArray(box)
        image.SetSpacing((0.8, 0.8, 0.8))
        nodes.append(volume_node(scene, image, name, "vtkMRMLLabelMapVolumeNode"))
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    rows = by_name(quality_rows(*nodes, None, None, still))
    assert rows[("Dice", "label 1")].after == pytest.approx(1.0 - 3.0 / 62.0, abs=0.01)
    assert rows[("HD95", "label 1")].after == pytest.approx(2.4, abs=0.5)
    assert rows[("Volume", "label 1")].after == pytest.approx((62 * 0.8) ** 3 / 1000.0, rel=0.05)


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


def point_list(scene, points, names, placed, name):
    """Point list in which only some of the points are placed; the others keep a position that means nothing."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for number, (point, label) in enumerate(zip(points, names, strict=True)):
        node.AddControlPoint(vtk.vtkVector3d(point), label)
        if not placed[number]:
            node.UnsetNthControlPointPosition(number)
    return node


@pytest.mark.parametrize("seed", range(40))
def test_only_placed_landmarks_count_whatever_is_missing_on_either_side(scene, registered, seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    world = rng.uniform(-20.0, 20.0, (count, 3))
    error = rng.uniform(0.0, 6.0, count)  # what the measure has to find, point by point
    there = map_points(world_registration(registered.node), world) + error[:, None] * (0.0, 0.0, 1.0)
    own_names = rng.random() < 0.5
    order = rng.permutation(count) if own_names else np.arange(count)
    fixed_names = [f"L{number}" if own_names else "P" for number in range(count)]
    moving_names = [f" l{number}" if own_names else "P" for number in order]
    placed = rng.random((2, count)) < 0.7
    placed[:, 0] = True
    fixed = point_list(scene, world, fixed_names, placed[0], "F")
    moving = point_list(scene, there[order], moving_names, placed[1][order], "M")
    rows = quality_rows(None, None, fixed, moving, registered.node)
    both = placed.all(axis=0)
    figures = by_name(rows)
    assert figures[("TRE, mean", "")].after == pytest.approx(error[both].mean(), abs=1e-3)
    assert figures[("TRE, maximum", "")].after == pytest.approx(error[both].max(), abs=1e-3)
    before = np.linalg.norm(world - there, axis=1)[both]
    assert figures[("TRE, mean", "")].before == pytest.approx(before.mean(), abs=1e-3)
    assert [row.measure for row in rows].count("TRE") == both.sum()
    assert [row.measure for row in rows].count("Not measured") == 2 * (count - both.sum())


def test_lists_without_a_placed_pair_are_refused_in_words(scene, registered):
    points = np.zeros((2, 3))
    one = point_list(scene, points, "AB", (True, False), "one")
    other = point_list(scene, points, "AB", (False, True), "other")
    none = point_list(scene, points[:0], "", (), "none")
    for chosen, words in (
        ((one, other), "no landmark that is placed in both"),
        ((none, none), "0 fixed and 0 moving"),
    ):
        with pytest.raises(BridgeError, match=words):
            quality_rows(None, None, *chosen, registered.node)


def balls(scene, named_balls, name):
    """Segmentation of balls, each a segment of its own with a name that others may have too."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    grid = empty_grid("anisotropic")
    for number, (segment_name, centre, radius) in enumerate(named_balls):
        ball = (np.linalg.norm(points_of(grid) - centre, axis=1) < radius).astype(np.uint8)
        one = segmentation_node(scene, on_grid(ball, grid), {1: segment_name})
        segment = one.GetSegmentation().GetNthSegment(0)
        node.GetSegmentation().AddSegment(segment, f"segment{number}")
        scene.RemoveNode(one)
    return node


def test_segments_of_one_name_are_measured_together_and_it_says_so(scene):
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    big, small = ("lesion", (-12.0, 0.0, 0.0), 10.0), ("lesion", (14.0, 4.0, 0.0), 5.0)
    both = balls(scene, [big, small], "both")
    rows = by_name(quality_rows(both, balls(scene, [small, big], "again"), None, None, still))
    together = "lesion (2 fixed and 2 moving segments together)"
    assert rows[("Dice", together)].after == 1.0
    assert rows[("Volume", together)].after == pytest.approx(
        4.0 / 3.0 * np.pi * (10.0**3 + 5.0**3) / 1000.0, rel=0.05
    )
    rows = by_name(quality_rows(both, balls(scene, [small], "the small one"), None, None, still))
    missing_the_big_one = rows[("Dice", "lesion (2 fixed and 1 moving segments together)")].after
    assert missing_the_big_one == pytest.approx(2 * 5.0**3 / (10.0**3 + 2 * 5.0**3), abs=0.03)


def test_growth_between_the_dates_is_that_of_the_outlines(scene):
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    today = balls(scene, [("lesion", (0.0, 0.0, 0.0), 12.0)], "today")
    before = balls(scene, [("lesion", (0.0, 0.0, 0.0), 9.0)], "last year")
    rows = by_name(quality_rows(today, before, None, None, still))
    grown = rows[("Growth", "lesion")]
    assert grown.before is None and grown.after == pytest.approx(100.0 * ((12.0 / 9.0) ** 3 - 1.0), abs=8.0)
    drawn = rows[("Volume, fixed", "lesion")]
    assert drawn.after == pytest.approx(4.0 / 3.0 * np.pi * 12.0**3 / 1000.0, rel=0.05)
    assert rows[("Volume", "lesion")].before < drawn.after


def test_names_that_differ_in_case_and_blanks_belong_together_unless_another_is_the_same(scene):
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    first, second = ((-12.0, 0.0, 0.0), 10.0), ((14.0, 4.0, 0.0), 7.0)
    fixed = balls(scene, [("Left breast", *first), ("Lesion", *second)], "fixed")
    moving = balls(
        scene, [("left  BREAST ", *first), ("Lesion", *second), ("lesion ", *first), ("cyst", *first)], "m"
    )
    rows = quality_rows(fixed, moving, None, None, still)
    figures = by_name(rows)
    assert figures[("Dice", "Left breast / left  BREAST ")].after == 1.0
    assert figures[("Dice", "Lesion")].after == 1.0
    assert [row.structure for row in rows if row.measure == "Not measured"] == [
        "lesion  (only in 'm')",
        "cyst (only in 'm')",
    ]


def test_empty_segment_is_said_to_be_empty(scene):
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    ball = ("breast", (0.0, 0.0, 0.0), 10.0)
    fixed, moving = balls(scene, [ball], "fixed"), balls(scene, [ball], "moving")
    for node in (fixed, moving):
        node.GetSegmentation().AddEmptySegment("drawn later", "lesion")
    rows = quality_rows(fixed, moving, None, None, still)
    assert [row.structure for row in rows] == ["breast"] * 5 + ["lesion (empty)"]


def label_map(scene, names, name):
    """Label map of the two halves of the body, with a colour table that names them, or Slicer's own one."""
    image = on_grid(halves(points_of(empty_grid())), empty_grid())
    node = volume_node(scene, image, name, "vtkMRMLLabelMapVolumeNode")
    if names:
        table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", f"colours of {name}")
        table.SetTypeToUser()
        table.SetNumberOfColors(3)
        for label, text in names.items():
            table.SetColor(label, text, 1.0, 0.0, 0.0)
        node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    return node


def test_label_maps_are_paired_by_the_names_of_their_colour_tables(scene):
    still = scene.AddNewNodeByClass("vtkMRMLTransformNode", "identity")
    fixed = label_map(scene, {1: "right", 2: "left"}, "fixed")
    swapped = label_map(scene, {1: "left", 2: "right"}, "moving")
    rows = by_name(quality_rows(fixed, swapped, None, None, still))
    assert rows[("Dice", "left")].after < 0.1 and rows[("Dice", "right")].after < 0.1
    of_slicer = label_map(scene, {}, "unnamed")  # has no names of its own: its labels say what belongs together
    rows = by_name(quality_rows(fixed, of_slicer, None, None, still))
    assert rows[("Dice", "label 1")].after == rows[("Dice", "label 2")].after == 1.0
    segments = segmentation_node(scene, on_grid(halves(points_of(empty_grid())), empty_grid()), NAMES)
    rows = by_name(quality_rows(segments, fixed, None, None, still))
    assert rows[("Dice", "left")].after == rows[("Dice", "right")].after == 1.0
    with pytest.raises(BridgeError, match=r"only in 'unnamed'.*colour table"):
        quality_rows(segments, of_slicer, None, None, still)


def measured(registered, labels):
    store_record(registered.node, RECORD, registered.fixed, registered.moving)
    return quality_table(*labels, None, None, registered.node)


def test_second_measurement_renews_the_table_of_its_registration(scene, registered, labels):
    table = measured(registered, labels)
    count = table.GetNumberOfRows()
    assert table.GetName() == "Quality of registration" and count > 3
    assert quality_table(None, None, None, None, registered.node) is table
    assert table.GetNumberOfRows() == 3, "the record's own figures"
    scene.RemoveNode(table)
    again = quality_table(*labels, None, None, registered.node)
    assert again is not table and again.GetNumberOfRows() == count


def test_table_goes_into_a_file_whole_or_not_at_all(registered, labels, tmp_path):
    table = measured(registered, labels)
    path = tmp_path / "quality.csv"
    write_csv(table, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Measure", "Structure", "Before", "After", "Unit"]
    assert ["HD95", "left"] in [row[:2] for row in rows] and {row[4] for row in rows[1:]} >= {"mm", "cm3", "%"}
    assert len(rows) == table.GetNumberOfRows() + 1
    assert as_text(table).splitlines()[0] == "\t".join(rows[0])
    with pytest.raises(BridgeError, match="cannot be written"):
        write_csv(table, tmp_path / "nowhere" / "quality.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BridgeError, match="cannot be written"):
        write_csv(table, tmp_path / "folder.csv")
    assert sorted(each.name for each in tmp_path.glob("*.csv")) == ["folder.csv", "quality.csv"]
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_plot_has_a_bar_before_and_after_for_each_structure(scene, registered, labels):
    table = measured(registered, labels)
    assert plottable(table) == ["Dice", "HD95", "Volume"]
    chart = plot(table, "HD95")
    assert chart.GetYAxisTitle() == "HD95 (mm)"
    series = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [each.GetYColumnName() for each in series] == ["Before", "After"]
    values = series[0].GetTableNode().GetTable()
    rows = by_name(quality_rows(*labels, None, None, registered.node))
    for row in range(values.GetNumberOfRows()):
        name, before, after = (values.GetValue(row, column) for column in range(3))
        expected = rows[("HD95", name.ToString())]
        assert before.ToDouble() == pytest.approx(expected.before, abs=1e-3)
        assert after.ToDouble() == pytest.approx(expected.after, abs=1e-3)
    count = scene.GetNumberOfNodes()
    assert plot(table, "Dice") is chart and chart.GetYAxisTitle() == "Dice" and scene.GetNumberOfNodes() == count
