"""Lesions that are marked keep size and shape, whatever the grids, the initial transform and the field."""

import json
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import (
    assert_readable,
    empty_grid,
    initial_transforms,
    on_grid,
    points_of,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.convex_adam.prescribed import prescribe
from FoundationRegistrationLib.convex_adam.unfolding import folded_nodes
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant
from FoundationRegistrationLib.evaluation.overlap import dice
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.pipeline.lesions import find_lesions, keep_lesions, lesion_volumes
from FoundationRegistrationLib.pipeline.lesions.point_map import PointMap
from FoundationRegistrationLib.pipeline.lesions.regions import carried_corners
from FoundationRegistrationLib.spatial.displacement import displacement_image
from FoundationRegistrationLib.spatial.grids import WorkingGrid
from FoundationRegistrationLib.spatial.warping import compose_transform, warp_labels

CELL_MM = 4.0
CENTER = (9.0, -6.0, 4.0)


def ball(grid, center=CENTER, radius=7.0, label=1):
    """Label image of an ellipsoid."""
    scaled = (points_of(grid) - center) / (radius * np.array([1.0, 0.8, 1.1]))
    return on_grid((label * (np.linalg.norm(scaled, axis=1) < 1.0)).astype(np.uint8), grid)


def squeezing_field(cell_mm=CELL_MM, strength=0.35, center=CENTER):
    """Displacement of `smooth_warp` and of a pull towards a center, which changes volumes there by more than half."""
    shape = tuple(round(110.0 / cell_mm) for _ in range(3))
    cells = WorkingGrid(tuple(-cell_mm * (shape[0] - 1) / 2 for _ in range(3)), cell_mm, shape)
    points = points_of(cells.image(np.zeros(shape)))
    local = points - np.asarray(center)
    pull = -strength * local * np.exp(-((local / 14.0) ** 2).sum(1, keepdims=True))
    u = (smooth_warp(points) - points + pull).reshape(*shape, 3) / cell_mm
    return displacement_image(torch.from_numpy(u).permute(3, 0, 1, 2).flip(0).contiguous(), cells)


def moved_center(field, initial, center=CENTER):
    return through(compose_transform(initial, field), np.array([center]))[0]


def distances(points):
    """Distances between points that lie anywhere in a lesion."""
    chosen = points[np.random.default_rng(3).permutation(len(points))[:200]]
    return np.array([np.linalg.norm(a - b) for a, b in pairwise(chosen)])


@pytest.fixture(scope="module")
def field():
    return squeezing_field()


# ---- the field ----


@pytest.mark.parametrize("kind", initial_transforms())
def test_a_moving_lesion_moves_rigidly_whatever_the_initial_transform(field, kind):
    initial = initial_transforms()[kind]
    moving = empty_grid("oblique", moved_center(field, initial))
    mask = ball(moving, moved_center(field, initial))
    lesions = find_lesions(mask, moving, "moving", CELL_MM)
    before, after = (lesion_volumes(f, initial, lesions)[0] for f in (field, keep_lesions(field, initial, lesions)))
    voxels = np.count_nonzero(sitk.GetArrayViewFromImage(mask))
    assert before.before_mm3 == pytest.approx(voxels * np.prod(mask.GetSpacing()))
    assert abs(before.percent) > 20.0
    # An initial field bends between the nodes of the field that makes up for it.
    assert abs(after.percent) < (1.0 if "field" in kind or kind == "nested" else 1e-3)


def test_the_moving_lesion_is_as_large_when_voxels_are_counted_and_nothing_folds_or_moves_far_away(field):
    initial = initial_transforms()["affine"]
    mask = ball(empty_grid("anisotropic", moved_center(field, initial)), moved_center(field, initial))
    kept = keep_lesions(field, initial, find_lesions(mask, mask, "moving", CELL_MM))
    reference = empty_grid("oblique", CENTER, (36.0, 36.0, 36.0))
    fine = sitk.Expand(reference, [4, 4, 4])
    counted = sitk.GetArrayFromImage(
        sitk.Resample(mask, fine, compose_transform(initial, kept), sitk.sitkNearestNeighbor)
    )
    true = np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing())
    assert counted.sum() * np.prod(fine.GetSpacing()) == pytest.approx(true, rel=0.01)
    assert sitk.GetArrayFromImage(jacobian_determinant(kept)).min() > 0.0
    change = np.linalg.norm(sitk.GetArrayFromImage(kept - field), axis=-1).ravel()
    far = np.linalg.norm(points_of(field) - CENTER, axis=1) > 60.0
    assert change.max() > 1.0
    assert change[far].max() < 0.02


@pytest.mark.parametrize(("radius", "voxels"), [(0.9, 1), (3.0, 9)])
def test_a_fixed_lesion_smaller_than_a_cell_keeps_its_shape(field, radius, voxels):
    initial = rigid_transform()
    fixed = empty_grid("sagittal", CENTER, (30.0, 30.0, 30.0))
    middle = fixed.TransformIndexToPhysicalPoint([size // 2 for size in fixed.GetSize()])
    mask = ball(fixed, middle, radius)
    assert np.count_nonzero(sitk.GetArrayViewFromImage(mask)) == voxels
    (lesion,) = find_lesions(mask, fixed, "fixed", CELL_MM)
    transforms = [compose_transform(initial, f) for f in (field, keep_lesions(field, initial, [lesion]))]
    before, after = (distances(through(t, lesion.corners)) / distances(lesion.corners) for t in transforms)
    assert np.abs(before - 1.0).max() > 0.1
    assert np.abs(after - 1.0).max() < 1e-4


def test_lesions_apart_have_their_own_motion_and_lesions_side_by_side_have_one(field):
    initial = sitk.AffineTransform(3)
    initial.Scale((1.1, 0.95, 1.0))
    moving = empty_grid("RAS", moved_center(field, initial))
    near = moved_center(field, initial)
    masks = [
        ball(moving, near + shift, 5.0, label) for label, shift in enumerate(([0, 0, 0], [0, 11, 0], [0, 3, -30]), 1)
    ]
    lesions = find_lesions(masks[0] + masks[1] + masks[2], moving, "moving", CELL_MM)
    assert [(lesion.label, lesion.number) for lesion in lesions] == [(1, 1), (2, 1), (3, 1)]
    kept = keep_lesions(field, initial, lesions)
    assert max(abs(volume.percent) for volume in lesion_volumes(field, initial, lesions)) > 20.0
    assert max(abs(volume.percent) for volume in lesion_volumes(kept, initial, lesions)) < 0.01
    assert sitk.GetArrayFromImage(jacobian_determinant(kept)).min() > 0.0
    carried = carried_corners(PointMap(kept, initial), lesions)
    side_by_side, apart = (
        np.abs(
            distances(np.concatenate([lesions[i].corners, lesions[j].corners]))
            - distances(np.concatenate([carried[i], carried[j]]))
        ).max()
        for i, j in ((0, 1), (1, 2))
    )
    assert side_by_side < 1e-3
    assert apart > 0.5


def test_a_lesion_on_both_sides_moves_as_one(field):
    initial = sitk.TranslationTransform(3, (3.0, 0.0, -2.0))
    fixed = empty_grid("LAS", CENTER, (50.0, 50.0, 50.0))
    moving = empty_grid("oblique", moved_center(field, initial), (50.0, 50.0, 50.0))
    lesions = [
        *find_lesions(ball(fixed, radius=5.0), fixed, "fixed", CELL_MM),
        *find_lesions(ball(moving, moved_center(field, initial), 8.0), moving, "moving", CELL_MM),
    ]
    volumes = lesion_volumes(keep_lesions(field, initial, lesions), initial, lesions)
    assert [volume.side for volume in volumes] == ["fixed", "moving"]
    assert max(abs(volume.percent) for volume in volumes) < 0.01


def test_a_lesion_at_the_edge_of_its_volume_and_of_the_field_is_kept(field):
    initial = sitk.TranslationTransform(3)
    edge = np.array([54.0, 0.0, 0.0])  # the cells end at 52 mm
    moving = empty_grid("sagittal", edge - [20.0, 0.0, 0.0], (46.0, 40.0, 40.0))
    mask = ball(moving, edge, 6.0)
    assert sitk.GetArrayViewFromImage(mask)[[0, -1]].any()
    lesions = find_lesions(mask, moving, "moving", CELL_MM)
    assert abs(lesion_volumes(keep_lesions(field, initial, lesions), initial, lesions)[0].percent) < 0.01


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_known_change_of_volume_is_measured(side):
    grid = empty_grid("anisotropic", (0, 0, 0), (40.0, 40.0, 40.0))
    lesions = find_lesions(ball(grid, (1.0, 2.0, 3.0)), grid, side, CELL_MM)
    scaling = sitk.ScaleTransform(3, (1.2, 1.0, 0.9))
    nothing = sitk.Image([12] * 3, sitk.sitkVectorFloat64)
    (found,) = lesion_volumes(nothing, scaling, lesions)
    factor = 1.08 if side == "fixed" else 1.0 / 1.08
    assert found.percent == pytest.approx(100.0 * (factor - 1.0), abs=1e-6)
    assert found.after_mm3 == pytest.approx(factor * found.before_mm3)


def test_nodes_pulled_apart_never_leave_a_fold():
    given = torch.zeros(12, 12, 12, dtype=torch.bool)
    wanted = torch.zeros(3, 12, 12, 12)
    for index, pull in ((5, 2.0), (6, -2.0)):  # neighbours that would change places
        given[index, 6, 6] = True
        wanted[0, index, 6, 6] = pull
    assert folded_nodes(torch.where(given, wanted, 0.0)).any()
    assert not folded_nodes(prescribe(torch.zeros(3, 12, 12, 12), given, wanted)).any()


# ---- what a user gives ----


def test_unsuitable_masks_are_refused_in_words():
    fixed = volume(empty_grid("oblique"))
    nothing = on_grid(np.zeros(fixed.GetNumberOfPixels(), np.uint8), fixed)
    fractions = sitk.Cast(ball(fixed), sitk.sitkFloat32) * 0.5
    values = np.arange(fixed.GetNumberOfPixels())
    columns, slices = fixed.GetSize()[0], fixed.GetSize()[0] * fixed.GetSize()[1]
    specks = (values % columns % 3 == 0) & (values // columns % 3 == 0) & (values // slices % 3 == 0)
    alone = on_grid(specks.astype(np.uint8), fixed)
    wrong_way_round = 1 - ball(fixed)
    for masks, words in (
        ({"fixed_lesion": sitk.Cast(fixed, sitk.sitkInt16)}, "like an intensity image"),
        ({"moving_lesion": alone}, "more than 500 separate regions"),
        ({"moving_lesion": wrong_way_round}, "is the mask inverted"),
        ({"moving_lesion": nothing}, "moving lesion mask is empty"),
        ({"fixed_lesion": fractions}, "fractions"),
        ({"fixed_lesion": ball(empty_grid("LPS"))}, "fixed lesion mask does not lie on the grid of the fixed volume"),
    ):
        with pytest.raises(InputError, match=words) as error:
            register(fixed, fixed, Settings(encoder="mind", device="cpu"), **masks)
        assert_readable(error)


def pair_with_a_lesion():
    """Fixed volume without and moving volume with a bright lesion, and the lesion's mask."""
    fixed, moving = volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))
    mask = ball(moving, (6.0, -4.0, 2.0), 8.0)
    return fixed, moving + 500.0 * sitk.Cast(mask, sitk.sitkFloat32), mask


def test_a_lesion_given_on_the_command_line_is_kept_and_reported(tmp_path, capsys):
    for name, image in zip(("fixed", "moving", "lesion"), pair_with_a_lesion(), strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    arguments = ["register", tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd", "--output", tmp_path / "out"]
    arguments += ["--moving-lesion", tmp_path / "lesion.nrrd", "--encoder", "mind", "--working-spacing-mm", "4"]
    arguments += ["--initialization", "none", "--iterations", "10", "--device", "cpu", "--progress", "none"]
    assert main([str(argument) for argument in arguments]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    (change,) = report["metrics"]["lesion_volume_change_percent"]
    assert (change["side"], change["label"]) == ("moving", 1)
    assert abs(change["percent"]) < 0.1
    assert report["metrics"]["jacobian"]["folded_percent"] == 0.0
    assert "moving lesion 1.1" in capsys.readouterr().err


def test_the_lesion_of_the_phantom_keeps_its_volume_and_the_breast_its_agreement():
    case = make_phantom("lesion", 12, spacing_mm=4.0, difficulty="easy")
    mask = case.moving_labels["lesion"]
    quick = {"working_spacing_mm": 4.0, "initialization": "none", "iterations": 20, "fluid_iterations": 20}
    settings = Settings.from_preset("lesion", device="cpu", **quick)
    changes, agreements = [], []
    for lesion in (None, mask):
        result = register(case.fixed, case.moving, settings, moving_lesion=lesion)
        lesions = find_lesions(mask, case.moving, "moving", CELL_MM)
        changes += [lesion_volumes(result.deformation, result.initial_transform, lesions)[0].percent]
        warped = warp_labels(case.moving_labels["breast"], case.fixed, result.transform)
        agreements += [dice(case.fixed_labels["breast"], warped)[1]]
        assert result.metrics["jacobian"]["folded_percent"] == 0.0
    assert abs(changes[0]) > 3.0, "else the mask would have nothing to keep"
    assert abs(changes[1]) < 1.0
    assert agreements[1] > agreements[0] - 0.01
