"""The overview picture: what it shows, and that nothing half-written stays."""

import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.errors import InputError, OutputError
from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant
from FoundationRegistrationLib.evaluation.report import save_overview
from FoundationRegistrationLib.evaluation.report.page import add_axes, draw_page, page_layout
from FoundationRegistrationLib.evaluation.report.panels import arrow_factor, draw_displacement
from FoundationRegistrationLib.evaluation.report.scene import PLANES, build_scene
from FoundationRegistrationLib.phantom import make_phantom

OBLIQUE = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.15, -0.1, 0.2).GetMatrix()


GOOD = ("good", ())


def grid(array, spacing=(1.5, 2.0, 4.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), vector=False):
    image = sitk.GetImageFromArray(np.asarray(array), isVector=vector)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    image.SetOrigin((-30.0, 12.0, 5.0))
    return image


def body(centre=(10, 18, 18), shape=(20, 36, 40)):
    """Smooth body on dark air, a bright organ in the right, anterior, superior part."""
    index = np.indices(shape, dtype=np.float32)
    half = np.array([8, 14, 15])[:, None, None, None]
    middle = np.array(centre)[:, None, None, None]
    array = 100.0 * ((((index - middle) / half) ** 2).sum(0) < 1)
    array[centre[0] + 1 : centre[0] + 5, centre[1] - 8 : centre[1] - 3, centre[2] - 8 : centre[2] - 3] = 300
    return array.astype(np.float32)


def images(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), scale=1.0):
    """Arguments of ``save_overview`` on one grid: fixed, before, after, field, determinant."""
    shape = body().shape
    z, y, x = np.indices(shape)
    u = scale * np.stack([3 * np.sin(y / 6), 2 * np.cos(x / 7), 3 * np.sin(z / 5)], axis=-1)
    u = u @ np.reshape(direction, (3, 3)).T  # along the grid's axes, so that every direction looks alike
    field = grid(u, direction=direction, vector=True)
    return (
        grid(body(), direction=direction),
        grid(body((11, 21, 22)), direction=direction),
        grid(body(), direction=direction),
        field,
        jacobian_determinant(field),
    )


def pixels(path):
    """(rows, columns, 3) of a PNG."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3].astype(int)


def panel(picture, scene, number, plane=0):
    """Pixels of one picture of the page (column ``number``, row ``plane`` of the wide page)."""
    layout = page_layout(scene)
    scale = picture.shape[1] / layout.page[0]
    left, top, width, height = (scale * side for side in layout.cell(number, plane))
    top += picture.shape[0] - scale * layout.page[1]  # the header only moves it down
    return picture[round(top) : round(top + height), round(left) : round(left + width)]


def scene_of(arguments):
    return build_scene(*arguments, (None, None, None))


def has_colour(picture, colour, tolerance=40):
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=-1) < tolerance).sum())


def test_the_overview_is_a_picture_of_sensible_size(tmp_path):
    path = tmp_path / "overview.png"
    save_overview(path, *images(), title="Case 7", verdict=GOOD, lines=["Dice 0.61 before, 0.83 after"])
    picture = pixels(path)
    assert 800 < picture.shape[0] < 4000
    assert 1000 < picture.shape[1] < 4000
    assert picture.std() > 20
    assert list(tmp_path.iterdir()) == [path]


def test_before_and_after_differ_where_the_images_do(tmp_path):
    arguments = images()
    save_overview(tmp_path / "a.png", *arguments, title="t", verdict=GOOD)
    picture, scene = pixels(tmp_path / "a.png"), scene_of(arguments)
    fixed, before, after, mixed_before, mixed_after = (panel(picture, scene, k) for k in range(5))
    inside = (slice(10, -40), slice(10, -10))  # the fixed panel has a scale bar at its bottom
    assert np.abs(before - after).mean() > 10
    assert np.abs(mixed_before - mixed_after).mean() > 3
    assert np.abs(fixed - after)[inside].mean() < 3  # the same body, registered perfectly
    assert np.abs(mixed_after - after)[inside].mean() < 3


def test_the_same_patient_looks_the_same_from_any_stored_orientation(tmp_path):
    arguments = images(direction=OBLIQUE)
    save_overview(tmp_path / "lps.png", *arguments, title="t", verdict=GOOD)
    expected = pixels(tmp_path / "lps.png")
    for orientation in ("RAS", "SPL", "ARI"):
        turned = [sitk.DICOMOrient(image, orientation) for image in arguments]
        save_overview(tmp_path / "turned.png", *turned, title="t", verdict=GOOD)
        assert np.abs(pixels(tmp_path / "turned.png") - expected).mean() < 0.5, orientation


def test_pictures_follow_the_radiological_convention():
    scene = scene_of([sitk.DICOMOrient(image, "RSA") for image in images()])
    organ = scene.fixed > 0.8
    for plane in PLANES:
        rows, columns = plane.shown
        picture = scene.cut(np.broadcast_to(organ.any(axis=plane.axis, keepdims=True), organ.shape), plane)
        row, column = (float(np.mean(index)) for index in np.nonzero(picture))
        found = "left " if column < scene.fixed.shape[columns] / 2 else "right "
        found += "top" if row < scene.fixed.shape[rows] / 2 else "bottom"
        assert found == "left top", plane.name  # the organ lies right (left of the picture), anterior, superior


def test_arrows_and_components_follow_the_grid_not_the_patient_axes():
    scene, straight = scene_of(images(direction=OBLIQUE)), scene_of(images())
    assert scene.displacement == pytest.approx(straight.displacement, abs=1e-4)


def test_a_long_common_shift_is_named_and_does_not_hide_the_rest():
    """As after a start from afar: what is left of the displacement keeps its arrows and its scale."""
    fixed, before, after, field, jacobian = images(direction=OBLIQUE)
    near = scene_of((fixed, before, after, field, jacobian))
    away = sitk.GetImageFromArray(sitk.GetArrayFromImage(field) + np.float32([-60.0, 25.0, 110.0]), isVector=True)
    away.CopyInformation(field)
    scene = scene_of((fixed, before, after, away, jacobian))
    assert not near.shift.any()
    mean = sitk.GetArrayFromImage(field)[sitk.GetArrayFromImage(fixed) > 0].mean(0)
    assert scene.shift == pytest.approx(np.array([-60.0, 25.0, 110.0]) + mean, abs=3.0)
    assert scene.largest_displacement == pytest.approx(near.largest_displacement, abs=5.0)
    assert arrow_factor(scene) > 0
    said, not_said = (
        " ".join(axes.get_xlabel() + axes.get_ylabel() for axes in draw_page(each, "Title", GOOD, [], []).axes)
        for each in (scene, near)
    )
    assert re.search(r"mean shift of R (5|6)\d, P 2\d, S 1[01]\d mm", said)
    assert "shift" not in not_said


def test_arrows_point_from_the_fixed_to_the_moving_point():
    from matplotlib.figure import Figure

    fixed, before, after, _, _ = images()
    u = np.zeros((*body().shape, 3), np.float32) + np.array([3, 4, 5], np.float32)  # to L, P and S
    field = grid(u, vector=True)
    scene = scene_of((fixed, before, after, field, jacobian_determinant(field)))
    for plane, right, down in zip(PLANES, (3, 3, 4), (4, -5, -5), strict=True):
        axes = Figure().add_axes((0, 0, 1, 1))
        draw_displacement(axes, scene, plane)
        arrows = next(c for c in axes.collections if hasattr(c, "U"))
        across, downwards = arrows.U, arrows.V
        assert across == pytest.approx(right)
        assert downwards == pytest.approx(down)  # the picture's axis runs down
        assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_anisotropic_voxels_are_drawn_in_mm():
    scene = scene_of(images())
    layout = page_layout(scene)
    for plane in PLANES:
        height, width = scene.size_mm(plane)
        picture = scene.cut(scene.fixed, plane)
        rows, columns = plane.shown
        assert height / picture.shape[0] == pytest.approx((4.0, 2.0, 1.5)[rows])
        assert width / picture.shape[1] == pytest.approx((4.0, 2.0, 1.5)[columns])
    from matplotlib.figure import Figure

    axes = add_axes(Figure(figsize=layout.page), layout, scene, 0, 1)
    box = axes.get_window_extent()
    height, width = scene.size_mm(PLANES[1])
    assert box.height / box.width == pytest.approx(height / width)


def test_folded_voxels_and_only_they_are_marked(tmp_path):
    calm, wild = images(), images(scale=6.0)
    assert sitk.GetArrayFromImage(wild[4]).min() < 0 < sitk.GetArrayFromImage(calm[4]).min()
    save_overview(tmp_path / "calm.png", *calm, title="t", verdict=GOOD)
    save_overview(tmp_path / "wild.png", *wild, title="t", verdict=GOOD)
    marked = [
        sum(
            has_colour(panel(pixels(tmp_path / f"{name}.png"), scene_of(arguments), 6, k), "#b6ff00")
            for k in range(3)
        )
        for name, arguments in (("calm", calm), ("wild", wild))
    ]
    assert marked[0] == 0
    assert marked[1] > 200


def test_labels_are_outlined_in_their_colours(tmp_path):
    arguments = images()
    whole = [sitk.Cast(image > 50, sitk.sitkUInt8) for image in arguments[:3]]
    save_overview(
        tmp_path / "l.png",
        *arguments,
        title="t",
        verdict=GOOD,
        fixed_labels=whole[0],
        labels_before=whole[1],
        labels_after=whole[2],
    )
    picture, scene = pixels(tmp_path / "l.png"), scene_of(arguments)
    blue = [has_colour(panel(picture, scene, k), "#35d0ff", 70) for k in range(3)]
    orange = [has_colour(panel(picture, scene, k), "#ffb000", 70) for k in range(3)]
    assert min(blue) > 100
    assert orange[0] < 20
    assert orange[1] > 100
    assert orange[2] < orange[1] / 2  # after: the fixed outline lies on top of the same outline


def two_breasts():
    """Two breasts, the left one a little smaller, with air between them; a label of each and a lesion in the left."""
    labels = np.zeros((16, 24, 80), np.uint8)
    labels[2:14, 4:20, 4:30] = 1
    labels[3:13, 6:20, 50:74] = 2
    lesion = np.zeros_like(labels)
    lesion[10:12, 7:9, 70:73] = 1
    return labels, lesion


BREAST_MM = (2.0, 1.8, 3.0)


def scene_of_breasts(orientation="LPS", *, cut_through=None, labelled=False):
    """The scene of two breasts on an oblique, anisotropic grid, stored in an order of axes."""
    breasts, _ = two_breasts()
    image = grid(100.0 * (breasts > 0).astype(np.float32), BREAST_MM, OBLIQUE)
    zero = grid(np.zeros((*breasts.shape, 3), np.float32), BREAST_MM, OBLIQUE, vector=True)
    labels = grid(breasts, BREAST_MM, OBLIQUE) if labelled else None
    focus = None if cut_through is None else grid(cut_through, BREAST_MM, OBLIQUE)
    fixed, field, determinant, labels, focus = (
        None if each is None else sitk.DICOMOrient(each, orientation)
        for each in (image, zero, jacobian_determinant(zero), labels, focus)
    )
    return build_scene(fixed, fixed, fixed, field, determinant, (labels, None, None), focus=focus)


def test_two_breasts_get_a_tall_page():
    scene = scene_of_breasts()
    assert not page_layout(scene).wide
    assert arrow_factor(scene) == 0


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPL", "ARI"])
def test_every_cut_shows_breast_and_two_of_them_both(orientation):
    scene = scene_of_breasts(orientation)
    axial, coronal, sagittal = (scene.cut(scene.foreground, plane) for plane in PLANES)
    for picture in (axial, coronal):
        halves = np.array_split(picture, 2, axis=1)
        assert all(half.any() for half in halves)
    assert sagittal.mean() > 0.4


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPL", "ARI"])
def test_every_cut_goes_through_the_lesion(orientation):
    _, lesion = two_breasts()
    scene = scene_of_breasts(orientation, cut_through=lesion, labelled=True)
    z, y, x = np.nonzero(lesion)
    corner = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    corner.CopyInformation(grid(lesion[:1, :1, :1], BREAST_MM, OBLIQUE))
    index = corner.TransformPhysicalPointToContinuousIndex(np.asarray(scene.position).tolist())
    for value, of_lesion in zip(index, (x, y, z), strict=True):
        assert of_lesion.min() - 0.01 <= value <= of_lesion.max() + 0.01


@pytest.mark.parametrize("task", ["longitudinal", "pet-ct-to-mri"])
def test_cuts_of_a_patient_without_labels_show_breast_and_two_of_them_both(task):
    case = make_phantom(task, seed=0, spacing_mm=5.0, difficulty="easy")
    images = case.fixed, case.fixed_labels["breast"]
    for image in images:
        image.SetDirection(OBLIQUE)
    zero = sitk.Image(case.fixed.GetSize(), sitk.sitkVectorFloat32, 3)
    zero.CopyInformation(case.fixed)
    scene = build_scene(*[case.fixed] * 3, zero, jacobian_determinant(zero), (None,) * 3)
    breast = sitk.GetArrayFromImage(sitk.DICOMOrient(images[1], "LPS")) > 0
    index = sitk.DICOMOrient(case.fixed, "LPS").TransformPhysicalPointToIndex(np.asarray(scene.position).tolist())[
        ::-1
    ]
    for plane in PLANES:
        others = tuple(axis for axis in range(3) if axis != plane.axis)
        cut = breast.take(index[plane.axis], plane.axis)
        assert cut.sum() > 0.15 * breast.sum(axis=others).max(), plane.name
        if plane.name != "Sagittal":
            right, left = np.array_split(cut, 2, axis=1)
            assert right.any() and left.any(), plane.name


def test_a_small_structure_counts_as_much_as_a_large_one():
    breasts, lesion = two_breasts()
    structures = np.where(lesion > 0, 7, breasts)
    scene = scene_of_breasts(cut_through=structures)
    for plane in PLANES:
        assert 7 in structures.take(scene.centre[plane.axis], plane.axis)  # the margin keeps the first slices


def test_a_focus_in_the_dark_outside_the_anatomy_is_shown_too():
    outside = np.zeros((16, 24, 80), np.uint8)
    outside[0, 0, 79] = 1
    scene = scene_of_breasts(cut_through=outside)
    assert np.array(scene.fixed.shape)[2] == scene.centre[2] + 1


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 24, 40), (40, 6, 6)])
def test_thin_flat_and_even_volumes_are_drawn_too(tmp_path, shape):
    image = grid(np.full(shape, 7.0, np.float32))
    zero = grid(np.zeros((*shape, 3), np.float32), vector=True)
    save_overview(tmp_path / "p.png", image, image, image, zero, jacobian_determinant(zero), title="", verdict=GOOD)
    assert pixels(tmp_path / "p.png").size > 0


def test_long_texts_are_wrapped_inside_the_page(tmp_path):
    lines = [f"Line {number}: " + "long words " * 40 for number in range(5)]
    arguments = images()
    figure = draw_page(
        scene_of(arguments),
        "A title " * 60,
        ("failed", ["A reason " * 60]),
        ["A warning " * 60],
        [*lines, r"costs $\nonsense$"],
    )
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= page.x1, text.get_text()
        assert box.y1 <= page.y1
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    overlaps = [(a, b) for n, a in enumerate(boxes) for b in boxes[n + 1 :] if a.padded(-1).overlaps(b.padded(-1))]
    assert overlaps == []


def test_the_page_says_that_it_is_for_research():
    figure = draw_page(scene_of(images()), "Title", GOOD, [], [])
    texts = [text.get_text() for text in figure.texts]
    assert "For research use only. Not a medical device." in texts


def test_images_on_another_grid_or_of_another_kind_are_refused(tmp_path):
    fixed, before, after, field, det = images()
    other = grid(body(), spacing=(1.5, 2.0, 4.1))
    path = tmp_path / "p.png"
    with pytest.raises(InputError, match="after registration"):
        save_overview(path, fixed, before, other, field, det, title="t", verdict=GOOD)
    with pytest.raises(InputError, match="fixed labels"):
        save_overview(path, fixed, before, after, field, det, title="t", verdict=GOOD, fixed_labels=other)
    with pytest.raises(InputError, match="displacement field has 1"):
        save_overview(path, fixed, before, after, det, det, title="t", verdict=GOOD)
    with pytest.raises(InputError, match=r"\.png"):
        save_overview(tmp_path / "p.jpg", fixed, before, after, field, det, title="t", verdict=GOOD)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    taken = tmp_path / "taken.png"
    taken.mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_overview(taken, *images(), title="t", verdict=GOOD)
    assert list(tmp_path.iterdir()) == [taken]
    assert list(taken.iterdir()) == []


def test_the_drawing_library_is_loaded_only_to_draw():
    code = "import sys, FoundationRegistrationLib.evaluation.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
