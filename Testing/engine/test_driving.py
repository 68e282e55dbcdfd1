"""Structures and points that are marked in both volumes drive the registration, and are never proof of it."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_runs import array_of, quick
from volumes import (
    assert_readable,
    body_points,
    empty_grid,
    mean_error,
    on_grid,
    points_of,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib import register
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.convex_adam.point_pairs import PointDifference, PointPairs
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.landmark_files import write_points
from FoundationRegistrationLib.io.landmarks import Landmarks
from FoundationRegistrationLib.pipeline.assessment.evidence import Evidence
from FoundationRegistrationLib.pipeline.assessment.verdict import judge
from FoundationRegistrationLib.pipeline.driving import Driving, StructurePair, measure_structures
from FoundationRegistrationLib.pipeline.driving.points import driving_points
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import without_intensities
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.points import preimages

CENTRES = {"one": (-12.0, 0.0, 8.0), "two": (10.0, 6.0, -12.0), "three": (4.0, -12.0, 10.0)}


# What is known of a registration by structures and points alone.
ALONE = Evidence(
    in_common=1.0,
    agreement=None,
    fine_structure=None,
    outlines=None,
    expected_error={"median_mm": None, "not_known_percent": 100.0},
    one_modality=True,
    found_automatically=True,
    intensities_compared=False,
)


def far(points):
    """A smooth deformation, turned and moved: too far for headers."""
    return rigid_motion(smooth_warp(points))


def balls(grid, motion=lambda points: points, radius=8.0):
    """Masks by name of balls around the centres, which a fixed volume shows where they move from."""
    points = motion(points_of(grid))
    return {
        name: on_grid((np.linalg.norm(points - centre, axis=1) < radius).astype(np.uint8), grid)
        for name, centre in CENTRES.items()
    }


def label_map(masks):
    return sum(number * mask for number, mask in enumerate(masks.values(), start=1))


def pair(motion=smooth_warp, grids=("oblique", "sagittal")):
    fixed, moving = empty_grid(grids[0]), empty_grid(grids[1], (3, -2, 4))
    return fixed, moving, balls(fixed, motion), balls(moving)


def marked(count=10, motion=smooth_warp, seed=3):
    points = body_points()
    points = points[np.random.default_rng(seed).choice(len(points), count, replace=False)]
    return points, motion(points)


# ---- structures ----


@pytest.mark.parametrize("grids", [("oblique", "sagittal"), ("anisotropic", "RAS")])
def test_structures_alone_register_volumes_without_content(grids):
    fixed, moving, *structures = pair(far, grids)
    settings = quick(encoder="structures", initialization="affine", iterations=40)
    result = register(fixed, moving, settings, fixed_structures=structures[0], moving_structures=structures[1])
    near = np.concatenate([array_of(mask).reshape(-1)[None] for mask in structures[0].values()]).any(axis=0)
    points = points_of(fixed)[near]
    assert mean_error(result.transform, far, points) < 2.0, "half a cell of the working grid"
    assert mean_error(sitk.Transform(), far, points) > 10.0
    for found in result.metrics["structures"]:
        assert found["dice"] > 0.8
        assert found["distance_mm"] < 1.5
    assert result.verdict.level == "check"
    assert "Only structures and points were compared" in result.verdict.reasons[0]
    assert result.metrics["expected_error"]["median_mm"] is None
    assert result.metrics["jacobian"]["folded_percent"] == 0.0


def test_a_label_map_and_masks_by_name_are_the_same():
    fixed, moving, *given = pair()
    by_name = Driving.of(given, (None, None), (fixed, moving), [])
    by_label = Driving.of([label_map(masks) for masks in given], (None, None), (fixed, moving), [])
    assert [each.name for each in by_label.structures] == ["label 1", "label 2", "label 3"]
    for one, other in zip(by_name.structures, by_label.structures, strict=True):
        np.testing.assert_array_equal(array_of(one.fixed), array_of(other.fixed))
        np.testing.assert_array_equal(array_of(one.moving), array_of(other.moving))


def test_structures_move_what_the_intensities_do_not_show():
    """Both volumes show a body without anything inside; a ball inside has moved by 6 mm."""

    def motion(points):
        return points + np.exp(-np.square(points).sum(1, keepdims=True) / 300.0) * [0.0, 0.0, 6.0]

    def ball(points, radius):
        return (np.linalg.norm(points, axis=1) < radius).astype(np.uint8)

    grids = empty_grid("LPS"), empty_grid("RAS")
    volumes = [on_grid(100.0 * ball(points_of(grid), 30.0).astype(np.float32), grid) for grid in grids]
    inside = body_points()[np.linalg.norm(body_points(), axis=1) < 10.0]
    structures = [
        on_grid(ball(way(points_of(grid)), 10.0), grid) for way, grid in zip((motion, np.array), grids, strict=True)
    ]
    settings = quick(iterations=20, fluid_iterations=60)
    result = register(*volumes, settings, fixed_structures=structures[0], moving_structures=structures[1])
    assert mean_error(result.transform, motion, inside) < 0.3 * mean_error(sitk.Transform(), motion, inside)
    assert [found["name"] for found in result.record["driving"]["structures"]] == ["label 1"]
    assert result.verdict.level == "good" or "Only structures" not in result.verdict.reasons[0]


def test_structures_that_do_not_agree_are_a_reason_in_words():
    _, moving, in_fixed, in_moving = pair(lambda points: points)
    apart = balls(moving, lambda points: np.add(points, [0.0, 24.0, 0.0]))
    gone = balls(moving, lambda points: np.add(points, [0.0, 400.0, 0.0]))
    pairs = [
        StructurePair("one", in_fixed["one"], in_moving["one"]),
        StructurePair("two", in_fixed["two"], apart["two"]),
        StructurePair("three", in_fixed["three"], gone["three"]),
    ]
    known = sitk.Cast(moving * 0 + 1, sitk.sitkUInt8)
    found = measure_structures(pairs, sitk.TranslationTransform(3), known)
    assert found[0].dice > 0.9
    assert found[0].distance_mm < 1.5
    assert found[1].distance_mm > 8.0
    reasons = " ".join(judge(dataclasses.replace(ALONE, structures=found)).reasons)
    assert "'two' are still" in reasons
    assert "Of the structure 'three' nothing" in reasons
    assert "'one'" not in reasons


def test_unsuitable_structures_are_refused_in_words():
    fixed, moving, in_fixed, in_moving = pair()
    empty, other = in_moving["one"] * 0, {"heart": in_moving["one"]}
    cases = (
        (in_fixed, None, "both fixed and moving structures"),
        (in_fixed, {**in_moving, "one": empty}, "moving structure 'one' is empty"),
        (in_fixed, other, "share no name"),
        (in_fixed, in_fixed, "does not lie on the grid"),
        ({"one": in_fixed["one"] * 0 + 1}, in_moving, "covers the whole volume"),
        (sitk.Cast(in_fixed["one"], sitk.sitkFloat32) * 0.5, label_map(in_moving), "fractions"),
    )
    for one, another, words in cases:
        with pytest.raises(InputError, match=words) as error:
            register(fixed, moving, quick(encoder="structures"), fixed_structures=one, moving_structures=another)
        assert_readable(error)
    with pytest.raises(InputError, match="give some for both volumes"):
        register(fixed, moving, quick(encoder="structures"))


def test_a_structure_of_one_side_is_named_and_left_out():
    fixed, moving, in_fixed, in_moving = pair()
    messages = []
    driving = Driving.of((in_fixed, {"one": in_moving["one"]}), (None, None), (fixed, moving), messages)
    assert [each.name for each in driving.structures] == ["one"]
    assert "three, two" in messages[0]


# ---- the start ----


def test_structures_and_points_bring_volumes_together_from_far_away():
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.2, -0.3, 1.4, (60.0, -80.0, 40.0))
    motion = lambda points: through(turn, points)  # noqa: E731
    place = through(turn.GetInverse(), np.zeros((1, 3)))[0]
    fixed, moving = empty_grid("oblique", place), empty_grid("sagittal")
    structures = balls(fixed, motion), balls(moving)
    points = through(turn.GetInverse(), marked(6)[0]), marked(6)[0]
    prepared = without_intensities(fixed, "fixed"), without_intensities(moving, "moving")
    for given in ((structures, (None, None)), ((None, None), points)):
        driving = Driving.of(*given, (fixed, moving), [])
        found, _ = initial_alignment(*prepared, "affine", torch.device("cpu"), Progress({}), driving=driving)
        assert mean_error(found, motion, points[0]) < 2.0


# ---- points ----


@pytest.mark.parametrize("initial", [None, rigid_transform()])
def test_points_alone_give_a_smooth_map_through_them(initial):
    fixed, moving, *_ = pair(far)
    points, there = marked(20, far)
    result = register(
        fixed,
        moving,
        quick(encoder="structures", initialization="affine"),
        fixed_points=points,
        moving_points=there,
        initial_transform=initial,
    )
    assert max(each["left_mm"] for each in result.record["driving"]["points"]["drove"]) < 2.0, "marking is no better"
    others = body_points()[::7]
    assert mean_error(result.transform, far, others) < 1.5
    assert mean_error(rigid_transform(), far, others) > 2.5
    assert result.metrics["jacobian"]["folded_percent"] == 0.0
    assert result.metrics["inverse_error_mm"]["mean"] < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_wrong_point_is_named_and_left_out(seed):
    fixed, moving, *_ = pair()
    points, there = marked(10, seed=seed)
    names = tuple(f"P{number}" for number in range(10))
    clean = []
    assert driving_points(points, there, (fixed, moving), clean).excluded == {}
    assert clean == []
    there[4] += 40.0 * (-there[4] / np.linalg.norm(there[4]))  # towards the middle, so that it stays inside
    messages = []
    found = driving_points(Landmarks(names, points), Landmarks(names, there), (fixed, moving), messages)
    assert list(found.excluded) == ["P4"]
    assert found.excluded["P4"] == pytest.approx(40.0, abs=8.0)
    assert "'P4'" in messages[0]
    assert "P4" not in found.fixed.names
    assert len(found.fixed) == 9


def test_points_are_paired_by_name_and_too_few_to_check_is_said():
    fixed, moving, *_ = pair()
    points, there = marked(3)
    order = [2, 0, 1]
    messages = []
    one = Landmarks(("a", "b", "c"), points)
    other = Landmarks(tuple(one.names[index] for index in order), there[order])
    found = driving_points(one, other, (fixed, moving), messages)
    np.testing.assert_array_equal(found.moving.points, there)
    assert "too few" in messages[0]


def test_unsuitable_points_are_refused_in_words():
    fixed, moving, *_ = pair()
    points, there = marked(6)
    outside = there.copy()
    outside[2] *= [-1.0, -1.0, 1.0]
    outside[2] += 200.0
    for one, other, words in (
        (points, None, "both fixed and moving points"),
        (points, outside, "moving point '3' lies"),
        (np.repeat(points, 50, axis=0), np.repeat(there, 50, axis=0), "1 to 200"),
        (points[:0], there[:0], "cannot be paired|1 to 200"),
    ):
        with pytest.raises(InputError, match=words):
            register(fixed, moving, quick(encoder="structures"), fixed_points=one, moving_points=other)


def test_the_gradient_of_points_is_that_of_their_cost():
    generator = torch.Generator().manual_seed(1)
    field = torch.rand(3, 6, 7, 8, generator=generator, dtype=torch.float64) * 3.0
    fixed = torch.rand(3, 5, generator=generator, dtype=torch.float64) * 5.0
    moving = fixed + torch.tensor([0.5, 4.0, 1.0, 2.0, -3.0], dtype=torch.float64)
    cost = PointDifference(PointPairs(fixed, moving, 7.0))
    gradient = torch.zeros_like(field)
    cost.add_to(gradient, field)
    for index in [(0, 2, 3, 4), (1, 1, 1, 1), (2, 4, 4, 4)]:
        step = torch.zeros_like(field)
        step[index] = 1e-5
        ends = [float(cost.add_to(torch.zeros_like(field), field + sign * step)) for sign in (1, -1)]
        assert float(gradient[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_preimages_are_mapped_to_the_points():
    transform = sitk.CompositeTransform([rigid_transform(), sitk.ScaleTransform(3, (1.2, 0.9, 1.1))])
    points = body_points()[::50]
    np.testing.assert_allclose(through(transform, preimages(transform, points, points)), points, atol=1e-3)


# ---- never proof ----


def test_what_drives_stays_a_doubt_until_it_fits():
    evidence = dataclasses.replace(ALONE, points_left_mm={"nipple": 14.0, "sternum": 1.0})
    reasons = " ".join(judge(evidence).reasons)
    assert "'nipple', which drove the registration, is still 14 mm off" in reasons
    assert "sternum" not in reasons


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    fixed, moving, in_fixed, in_moving = pair()
    for name, image in (("fixed", volume(fixed, smooth_warp)), ("moving", volume(moving))):
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    for side, masks in (("fixed", in_fixed), ("moving", in_moving)):
        sitk.WriteImage(label_map(masks), str(folder / f"{side}_labels.nrrd"))
    points, there = marked(8)
    names = tuple("abcdefgh")
    for side, placed in (("fixed", points), ("moving", there)):
        write_points(folder / f"{side}_drive.mrk.json", Landmarks(names[:5], placed[:5]))
        write_points(folder / f"{side}_all.mrk.json", Landmarks(names, placed))
    return folder


def run(files, output, *options):
    fast = ("--progress", "none", "--encoder", "mind", "--working-spacing-mm", "6", "--iterations", "5")
    command = ["register", files / "fixed.nrrd", files / "moving.nrrd", "--output", output, *fast]
    return main([str(each) for each in (*command, "--fluid-iterations", "2", *options)])


def both(files, kind, name):
    return [part for side in ("fixed", "moving") for part in (f"--{side}-{kind}", files / f"{side}_{name}")]


def test_points_that_drove_are_left_out_of_the_error_and_labels_that_drove_are_marked(files, tmp_path, capsys):
    output = tmp_path / "result"
    given = [*both(files, "points", "drive.mrk.json"), *both(files, "structures", "labels.nrrd")]
    assessed = [*both(files, "landmarks", "all.mrk.json"), *both(files, "labels", "labels.nrrd")]
    assert run(files, output, *given, *assessed) == 0
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in report["driving"]["points"]["drove"]] == list("abcde")
    assert report["evaluation"]["landmarks"]["count"] == 3
    assert report["evaluation"]["landmarks_that_drove"] == 5
    assert all(row["drove"] for row in report["evaluation"]["labels"]["labels"])
    assert {"fixed_points", "moving_points", "fixed_structures", "moving_structures"} <= {*report["inputs"]}
    assert "left out of the TRE: 5 landmarks" in capsys.readouterr().err
    later = tmp_path / "later.json"
    assert main(["evaluate", str(output), *map(str, assessed), "--output", str(later)]) == 0
    assert json.loads(later.read_text(encoding="utf-8")) == report["evaluation"]


def test_one_side_alone_is_refused_and_nothing_is_written(files, tmp_path, capsys):
    for kind, name in (("points", "drive.mrk.json"), ("structures", "labels.nrrd")):
        assert run(files, tmp_path / "result", f"--fixed-{kind}", files / f"fixed_{name}") == 2
        assert f"--moving-{kind}" in capsys.readouterr().err
    assert not (tmp_path / "result").exists()
