"""Metrics against values worked out by hand, on grids that expose a wrong axis, spacing or direction."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant, jacobian_summary
from FoundationRegistrationLib.evaluation.labels import Evaluation, LabelAgreement, evaluate_labels
from FoundationRegistrationLib.evaluation.landmarks import target_registration_error
from FoundationRegistrationLib.evaluation.overlap import dice, hausdorff95, mean_over_labels, volume_error

OBLIQUE = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.4, 0.7).GetMatrix()
DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "left-handed": (-1, 0, 0, 0, 1, 0, 0, 0, 1),
    "permuted": (0, 0, 1, 1, 0, 0, 0, -1, 0),
    "oblique": OBLIQUE,
}
SPACING = (0.8, 1.5, 3.0)


def image(array, spacing=SPACING, direction="oblique", origin=(12.0, -7.0, 31.0), vector=False):
    """Image of a (Z, Y, X) array on an awkward grid."""
    result = sitk.GetImageFromArray(np.asarray(array), isVector=vector)
    result.SetSpacing(spacing)
    result.SetOrigin(origin)
    result.SetDirection(DIRECTIONS[direction])
    return result


def box(start, stop, shape=(12, 14, 16), value=1):
    """Label array with one box, indices (Z, Y, X)."""
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return array


def field(shape, function, direction, spacing=SPACING):
    """Displacement field u(x) from a function of LPS points (N, 3) -> (N, 3), in mm."""
    grid = image(np.zeros(shape, np.uint8), spacing, direction)
    indices = np.indices(shape).reshape(3, -1)[::-1].T.tolist()
    points = np.array([grid.TransformContinuousIndexToPhysicalPoint(index) for index in indices])
    return image(function(points).reshape(*shape, 3), spacing, direction, vector=True)


# ---- Dice ----


def test_dice_counts_overlap_of_each_label():
    a = box((0, 0, 0), (4, 4, 4)).astype(np.uint16)
    b = box((2, 0, 0), (6, 4, 4)).astype(np.uint16)
    a[6:8, 6:8, 6:8], b[6:8, 6:8, 6:8] = 300, 7
    result = dice(image(a), image(b))
    assert result == {1: 0.5, 7: 0.0, 300: 0.0}
    assert list(result) == [1, 7, 300]


def test_dice_of_equal_maps_is_one_whatever_the_pixel_type():
    a = box((1, 2, 3), (5, 6, 7), value=3)
    assert dice(image(a), image(a.astype(np.float32))) == {3: 1.0}


def test_dice_of_a_label_on_neither_side_is_nan_and_of_empty_maps_is_empty():
    empty = image(np.zeros((4, 4, 4), np.uint8))
    assert math.isnan(dice(empty, empty, labels=[5])[5])
    assert dice(empty, empty) == {}


def test_labels_that_were_interpolated_are_refused():
    soft = box((1, 1, 1), (4, 4, 4)).astype(np.float32) * 0.5
    with pytest.raises(InputError, match="nearest-neighbour"):
        dice(image(soft), image(soft))


def test_mean_over_labels_leaves_out_what_is_not_finite():
    assert mean_over_labels({1: 2.0, 2: 4.0, 3: math.inf, 4: math.nan}) == 3.0
    assert math.isnan(mean_over_labels({1: math.inf}))


# ---- one grid ----


@pytest.mark.parametrize("measure", [dice, hausdorff95])
@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (0.8, 1.5, 3.2)},
        {"origin": (12.0, -7.0, 31.5)},
        {"direction": "RAS"},
        {"direction": "left-handed"},
    ],
)
def test_another_grid_is_refused(measure, change):
    array = box((1, 1, 1), (4, 4, 4))
    with pytest.raises(InputError, match="does not lie on the grid"):
        measure(image(array), image(array, **change))


def test_another_size_is_refused_and_the_message_names_both_images():
    with pytest.raises(InputError, match="mask does not lie on the grid of the Jacobian determinant"):
        jacobian_summary(image(np.ones((4, 4, 4))), image(np.zeros((4, 4, 5), np.uint8)))


def test_a_float32_header_is_the_same_grid():
    array = box((1, 1, 1), (4, 4, 4))
    rounded = image(array, origin=tuple(float(np.float32(v) + 1e-5) for v in (12.0, -7.0, 31.0)))
    assert dice(image(array), rounded) == {1: 1.0}


def test_a_plane_is_not_a_volume():
    plane = sitk.Image(8, 8, sitk.sitkUInt8)
    with pytest.raises(InputError, match="3D"):
        dice(plane, plane)


# ---- HD95 ----


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_hd95_of_single_voxels_is_their_distance_in_mm(axis, direction):
    a, b = np.zeros((12, 14, 16), np.uint8), np.zeros((12, 14, 16), np.uint8)
    a[3, 3, 3] = 1
    moved = [3, 3, 3]
    moved[axis] += 4
    b[tuple(moved)] = 1
    distance = hausdorff95(image(a, direction=direction), image(b, direction=direction))[1]
    assert distance == pytest.approx(4 * SPACING[2 - axis])


def test_hd95_is_the_larger_direction_and_ignores_a_few_outliers():
    a = box((0, 0, 0), (1, 1, 16))
    b = a.copy()
    b[0, 10, 0] = 1  # 1 of 17 voxels, more than 5 %
    assert hausdorff95(image(a), image(b))[1] > 1.0
    assert hausdorff95(image(a), image(b)) == hausdorff95(image(b), image(a))
    a = np.ones((1, 14, 16), np.uint8)
    a[0, 5:, :] = 0
    b = a.copy()
    b[0, 13, 0] = 1  # 1 of 81 voxels, less than 5 %
    assert hausdorff95(image(a), image(b))[1] == 0.0


def test_hd95_equals_a_search_over_all_pairs():
    rng = np.random.default_rng(4)
    a = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image(rng.random((12, 14, 16))), 2.0)) > 0.5
    b = np.roll(a, (1, -2), axis=(0, 2))
    result = hausdorff95(image(a.astype(np.uint8)), image(b.astype(np.uint8)))[1]

    def surface(mask):
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis in range(3):
            for shift in (-1, 1):
                inner &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inner) * np.array(SPACING[::-1])

    distances = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=-1)
    expected = max(np.percentile(distances.min(0), 95), np.percentile(distances.min(1), 95))
    assert result == pytest.approx(expected)


def test_hd95_of_a_label_missing_on_one_side_is_infinite_and_on_both_nan():
    a, empty = image(box((1, 1, 1), (4, 4, 4))), image(np.zeros((12, 14, 16), np.uint8))
    assert hausdorff95(a, empty) == {1: math.inf}
    assert hausdorff95(empty, a) == {1: math.inf}
    assert math.isnan(hausdorff95(a, a, labels=[1, 9])[9])
    assert hausdorff95(a, a, labels=[1, 9])[1] == 0.0


def test_hd95_reads_labels_of_any_value_at_the_edge_of_the_grid():
    a = np.zeros((12, 14, 16), np.int32)
    a[:2], a[-2:] = 70000, -3
    result = hausdorff95(image(a), image(np.roll(a, 1, axis=1)))
    assert result == {-3: 0.0, 70000: 0.0}


# ---- landmarks and volumes ----


def test_tre_maps_the_fixed_point_onto_the_moving_point():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((1.1, 0.2, 0, 0, 0.9, 0, 0, 0.1, 1))
    transform.SetTranslation((5, -3, 2))
    fixed = np.array([[0.0, 0, 0], [10, 20, 30], [-4, 5, 6]])
    moving = np.array([transform.TransformPoint(p) for p in fixed.tolist()])
    assert target_registration_error(transform, fixed, moving) == pytest.approx(0.0, abs=1e-9)
    assert target_registration_error(transform, fixed, moving + np.array([3, 0, 4])) == pytest.approx(5.0)
    assert target_registration_error(transform, moving, fixed).max() > 5.0  # the other way round is wrong


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [([[0, 0, 0]], [[0, 0, 0], [1, 1, 1]]), ([], []), ([[0, 0]], [[0, 0]]), ([[0, 0, np.nan]], [[0, 0, 0]])],
)
def test_tre_refuses_lists_that_do_not_fit(fixed, moving):
    with pytest.raises(InputError, match="landmark"):
        target_registration_error(sitk.Transform(3, sitk.sitkIdentity), fixed, moving)


def test_volume_error_is_measured_in_mm3():
    lesion = image(box((0, 0, 0), (4, 4, 4)), spacing=(1, 1, 1))  # 64 mm^3
    same_size = image(box((0, 0, 0), (1, 4, 8)), spacing=(2, 1, 1), direction="RAS")  # 32 voxels, 64 mm^3
    shrunk = image(box((0, 0, 0), (3, 4, 4)), spacing=(1, 1, 1))
    assert volume_error(lesion, same_size) == pytest.approx(0.0)
    assert volume_error(lesion, shrunk) == pytest.approx(0.25)
    assert volume_error(shrunk, lesion) == pytest.approx(1 / 3)


def test_volume_error_of_one_label_leaves_the_others_alone():
    before = image(box((0, 0, 0), (2, 2, 2), value=2) + box((5, 5, 5), (9, 9, 9), value=1))
    after = image(box((0, 0, 0), (2, 2, 4), value=2) + box((5, 5, 5), (9, 9, 9), value=1))
    assert volume_error(before, after, label=2) == pytest.approx(1.0)
    assert volume_error(before, after, label=1) == 0.0
    with pytest.raises(InputError, match="label 8"):
        volume_error(before, after, label=8)


# ---- Jacobian ----

MATRIX = np.array([[0.1, 0.05, -0.2], [0.3, -0.15, 0.02], [-0.07, 0.11, 0.25]])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_jacobian_of_an_affine_field_is_its_determinant_everywhere(direction):
    det = jacobian_determinant(field((37, 6, 5), lambda x: x @ MATRIX.T + (3, -2, 1), direction))
    assert sitk.GetArrayFromImage(det) == pytest.approx(np.linalg.det(np.eye(3) + MATRIX), abs=1e-5)
    assert det.GetDirection() == pytest.approx(DIRECTIONS[direction])
    assert det.GetSpacing() == SPACING


@pytest.mark.parametrize("direction", ["LPS", "permuted", "oblique"])
def test_jacobian_of_a_smooth_field_follows_its_derivative(direction):
    wave = 2 * np.pi / 60

    def stretch(x):
        return np.stack([4 * np.sin(wave * x[:, 0]), np.zeros(len(x)), np.zeros(len(x))], axis=-1)

    u = field((40, 12, 14), stretch, direction, spacing=(0.5, 0.6, 0.8))
    x = field((40, 12, 14), lambda x: x, direction, spacing=(0.5, 0.6, 0.8))
    expected = 1 + 4 * wave * np.cos(wave * sitk.GetArrayFromImage(x)[..., 0])
    inside = (slice(1, -1),) * 3
    assert sitk.GetArrayFromImage(jacobian_determinant(u))[inside] == pytest.approx(expected[inside], abs=2e-3)


def test_jacobian_is_below_zero_where_the_field_folds():
    mirror = field((5, 5, 5), lambda x: x * (-2.0, 0, 0), "oblique")
    summary = jacobian_summary(jacobian_determinant(mirror))
    assert summary["folded_percent"] == 100.0
    assert summary["max"] == pytest.approx(-1.0, abs=1e-5)


def test_jacobian_of_a_single_slice_is_that_of_the_plane():
    det = jacobian_determinant(field((1, 6, 6), lambda x: x * (0.5, 0.0, 0.0), "LPS"))
    assert sitk.GetArrayFromImage(det) == pytest.approx(1.5, abs=1e-5)


def test_jacobian_wants_a_finite_field_of_three_components():
    with pytest.raises(InputError, match="3 components"):
        jacobian_determinant(image(np.zeros((4, 4, 4))))
    with pytest.raises(InputError, match="not finite"):
        jacobian_determinant(image(np.full((4, 4, 4, 3), np.nan), vector=True))


def test_jacobian_summary_by_hand_with_and_without_a_mask():
    values = np.ones((2, 2, 2), np.float32)
    values[0] = [[0.5, 2.0], [0.0, -3.0]]
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0] = 1
    inside = jacobian_summary(image(values), image(mask))
    assert inside == pytest.approx(
        {
            "folded_percent": 0.0,
            "sd_log": math.log(2),
            "min": 0.5,
            "max": 2.0,
            "mean": 1.25,
            "voxels": 2,
        }
    )
    whole = jacobian_summary(image(values))
    assert whole["folded_percent"] == 25.0
    assert (whole["min"], whole["max"], whole["voxels"]) == (-3.0, 2.0, 8)
    logs = [math.log(0.5), math.log(2), math.log(1e-9), math.log(1e-9), 0, 0, 0, 0]
    assert whole["sd_log"] == pytest.approx(np.std(logs))
    with pytest.raises(InputError, match="empty"):
        jacobian_summary(image(values), image(mask * 0))


# ---- before and after ----


def test_evaluation_compares_before_and_after_on_the_same_labels():
    fixed = box((2, 2, 2), (6, 6, 6)) + box((8, 8, 8), (10, 10, 10), value=2)
    before = box((4, 2, 2), (8, 6, 6)) + box((8, 10, 8), (10, 12, 10), value=2)
    after = box((2, 2, 2), (6, 6, 6))  # label 2 is lost
    result = evaluate_labels(image(fixed), image(before), image(after))
    assert [row.label for row in result.labels] == [1, 2]
    assert (result.labels[0].dice_before, result.labels[0].dice_after) == (0.5, 1.0)
    assert result.mean_dice_before == 0.25
    assert result.mean_dice_after == 0.5
    assert result.mean_hausdorff95_before == pytest.approx(2 * SPACING[2])  # of label 1 alone, as after
    assert result.mean_hausdorff95_after == 0.0
    assert (result.missing_before, result.missing_after) == ((), (2,))


def test_evaluation_is_json_without_nan_or_infinity():
    row = LabelAgreement(3, math.nan, 0.5, math.inf, 1.25)
    text = json.dumps(Evaluation((row,)).to_dict(), allow_nan=False)
    content = json.loads(text)
    assert content["labels"][0]["dice_before"] is None
    assert content["labels"][0]["hausdorff95_mm_before"] is None
    assert content["labels"][0]["hausdorff95_mm_after"] == 1.25
    assert content["mean_dice_after"] is None
    assert content["missing_before"] == [3]


def test_evaluation_wants_one_grid():
    array = box((1, 1, 1), (4, 4, 4))
    with pytest.raises(InputError, match="after registration"):
        evaluate_labels(image(array), image(array), image(array, direction="LPS"))
