"""A registration that ends lost is said first and plainly, a sound one is not; impossible starts are refused."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import (
    anatomy,
    assert_readable,
    body_depth,
    body_points,
    empty_grid,
    field_image,
    field_transform,
    initial_transforms,
    mean_error,
    on_grid,
    points_of,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    volume,
)

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.pipeline.assessment.agreement import fraction_in_common, measure_agreement
from FoundationRegistrationLib.pipeline.assessment.evidence import Evidence
from FoundationRegistrationLib.pipeline.assessment.fine_structure import measure_fine_structure
from FoundationRegistrationLib.pipeline.assessment.outlines import measure_outlines
from FoundationRegistrationLib.pipeline.assessment.overlaid import Overlaid
from FoundationRegistrationLib.pipeline.assessment.verdict import judge
from FoundationRegistrationLib.pipeline.initial_alignment.given_transform import check_initial_transform
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.progress import Progress

QUICK = Settings(
    encoder="mind",
    device="cpu",
    working_spacing_mm=4.0,
    grid_spacing=4,
    iterations=10,
    fluid_iterations=0,
    feature_cache_gb=0.0,
)


def turned(image, matrix):
    """The same voxels, with a header that is turned about the volume's centre."""
    half = (np.array(image.GetSize()) - 1) / 2
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(half.tolist()))
    direction = matrix @ np.array(image.GetDirection()).reshape(3, 3)
    result = sitk.Image(image)
    result.SetDirection(direction.ravel().tolist())
    result.SetOrigin((centre - direction @ (half * np.array(image.GetSpacing()))).tolist())
    return result


def rotation(axis, degrees):
    turn = sitk.VersorRigid3DTransform()
    turn.SetRotation(np.eye(3)[axis].tolist(), float(np.deg2rad(degrees)))
    return np.round(np.array(turn.GetMatrix()).reshape(3, 3))


def mirror(axis):
    matrix = np.eye(3)
    matrix[axis, axis] = -1.0
    return matrix


def motion(points):
    return rigid_motion(smooth_warp(points))


def other_contrast(points):
    """The same tissues, the bright ones dark and the dark ones bright."""
    inside = 1.0 / (1.0 + np.exp(-body_depth(points) / 0.7))
    return inside * (900.0 - anatomy(points)).clip(50.0)


def noise(seed, shape=(40, 36, 33)):
    values = np.random.default_rng(seed).normal(500.0, 100.0, shape).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-33.0, -36.0, -40.0))
    return image


def another_body():
    """Another outline with another texture: not the part of the body that `anatomy` shows."""
    grid = empty_grid("sagittal")
    points = points_of(grid) * [1.2, 0.8, 1.0]
    return on_grid(np.where(body_depth(points) > 0, anatomy(points[:, [2, 0, 1]] + 31.0), 0.0), grid)


def judged_after_the_start(fixed, moving, kind="affine"):
    """The verdict on the start alone."""
    fixed, moving = prepare(fixed, "auto", "fixed"), prepare(moving, "auto", "moving")
    progress = Progress({"alignment": 1.0})
    progress.start("alignment")
    initial, _ = initial_alignment(fixed, moving, kind, torch.device("cpu"), progress)
    overlaid = Overlaid.of(fixed, moving, initial, torch.device("cpu"))
    evidence = Evidence(
        in_common=fraction_in_common(fixed, moving, initial),
        agreement=measure_agreement(fixed, moving, initial, initial),
        fine_structure=measure_fine_structure(overlaid),
        outlines=measure_outlines(overlaid),
        expected_error={"median_mm": 1.0, "not_known_percent": 0.0},
        one_modality=fixed.modality == moving.modality,
        found_automatically=True,
    )
    assert evidence.agreement is not None
    return judge(evidence)


AXES = ("left-right", "front-back", "feet-head")


@pytest.mark.parametrize(("axis", "degrees"), [(0, 90), (1, 180), (2, 90)])
def test_a_turned_volume_is_said_to_be_turned_and_how(axis, degrees):
    fixed = volume(empty_grid("oblique"), motion)
    moving = turned(volume(empty_grid("anisotropic")), rotation(axis, degrees))
    result = register(fixed, moving, dataclasses.replace(QUICK, initialization="moments"))  # others may find the turn
    assert result.verdict.level == "failed"
    first = result.verdict.reasons[0]
    assert f"rotated by {degrees} degrees about the {AXES[axis]} axis" in first
    assert "\n" not in first
    agreement = result.metrics["agreement"]
    assert agreement["turned"] > 1.15 * max(agreement["start"], agreement["after"])


@pytest.mark.parametrize("axis", range(3))
def test_a_mirrored_volume_is_said_to_be_mirrored(axis):
    fixed, moving = volume(empty_grid("LAS"), motion), turned(volume(empty_grid("oblique")), mirror(axis))
    verdict = judged_after_the_start(fixed, moving)
    assert verdict.level == "failed"
    assert f"mirrored {AXES[axis]}" in verdict.reasons[0]


def unrelated():
    body = volume(empty_grid("LAS"))
    return {
        "noise and a body": (noise(1), body),
        "a body and noise": (body, noise(2)),
        "noise and noise": (noise(3), noise(4)),
        "another body": (volume(empty_grid("oblique")), another_body()),
    }


@pytest.mark.parametrize("name", unrelated())
def test_unrelated_volumes_are_said_to_agree_by_chance(name):
    result = register(*unrelated()[name], QUICK)
    assert result.verdict.level == "failed"
    assert "no better than by chance" in result.verdict.reasons[0]


@pytest.mark.parametrize(
    ("contrast", "initialization"),
    [(anatomy, "none"), (other_contrast, "moments"), (other_contrast, "rigid"), (anatomy, "affine")],
)
def test_a_sound_pair_is_left_in_peace(contrast, initialization):
    deformed = smooth_warp if initialization in ("none", "moments") else motion
    fixed = volume(empty_grid("oblique"), deformed)
    grid = empty_grid("sagittal", (3, -2, 4))
    moving = on_grid(contrast(points_of(grid)).astype(np.float32), grid)
    finer = dataclasses.replace(QUICK, working_spacing_mm=2.0, iterations=40, initialization=initialization)
    result = register(fixed, moving, finer)
    points = body_points(deformed)
    before = mean_error(sitk.TranslationTransform(3), deformed, points)
    assert mean_error(result.transform, deformed, points) < 0.6 * before
    assert result.verdict.level == "good", result.verdict.reasons
    agreement = result.metrics["agreement"]
    assert 0.0 < agreement["typical"] <= agreement["turned"] < agreement["after"] <= 1.0


@pytest.mark.parametrize("task", ["cross-sequence", "pet-ct-to-mri"])
def test_phantoms_of_two_contrasts_agree_and_turned_ones_do_not(task):
    case = make_phantom(task, 5, spacing_mm=8.0, difficulty="easy")
    assert judged_after_the_start(case.fixed, case.moving, "rigid").level != "failed"
    upside_down = turned(case.moving, rotation(0, 180))
    assert judged_after_the_start(case.fixed, upside_down, "moments").level == "failed"


def test_a_start_that_makes_aligned_volumes_worse_is_said():
    """The volumes lie on each other already, and the given start carries them apart."""
    fixed, moving = volume(empty_grid("LPS")), volume(empty_grid("RAS"))
    away = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, 1.3, (9.0, -6.0, 5.0))
    result = register(fixed, moving, QUICK, initial_transform=away)
    assert mean_error(result.transform, lambda points: points, body_points()) > 8.0
    assert result.verdict.level == "failed"
    assert result.metrics["agreement"]["as_given"] > result.metrics["agreement"]["after"]


def test_masks_that_hardly_meet_are_said():
    whole = volume(empty_grid("RAS"))
    masks = []
    for wanted in (slice(0, 20), slice(19, None)):
        masks.append(sitk.Image(whole.GetSize(), sitk.sitkUInt8))
        masks[-1].CopyInformation(whole)
        masks[-1][:, :, wanted] = 1
    settings = dataclasses.replace(QUICK, displacement_half_width=1)
    result = register(whole, whole, settings, fixed_mask=masks[0], moving_mask=masks[1])
    assert result.verdict.level == "failed"
    assert "lies within the other" in result.verdict.reasons[0]


def test_a_thin_mask_is_not_judged():
    whole = volume(empty_grid("RAS"))
    mask = sitk.Image(whole.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(whole)
    mask[:, :, 18] = 1
    result = register(whole, whole, dataclasses.replace(QUICK, working_spacing_mm=2.0), fixed_mask=mask)
    assert result.metrics["agreement"] is None


# ---- starts that cannot be ----


def flat():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, 0))
    return transform


def not_a_number():
    transform = sitk.AffineTransform(3)
    transform.SetTranslation((float("nan"), 0, 0))
    return transform


def spoiled_field():
    """A field with one value that is not finite, where hardly any point looks."""
    field = field_image()
    field[3, 4, 5] = (float("inf"), 0.0, 0.0)
    return sitk.DisplacementFieldTransform(field)


IMPOSSIBLE = {
    "flat": (flat(), "singular"),
    "shrunk to a point": (sitk.ScaleTransform(3, (1e-4, 1e-4, 1e-4)), "singular"),
    "flat within a composite": (sitk.CompositeTransform([rigid_transform(), flat()]), "singular"),
    "not a number": (not_a_number(), "not finite"),
    "a field with an infinity": (spoiled_field(), "not finite"),
    "2D": (sitk.Euler2DTransform(), "3D"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_start_that_cannot_be_is_refused_before_the_run(name):
    transform, reason = IMPOSSIBLE[name]
    steps = []
    pair = volume(empty_grid("LAS")), volume(empty_grid("RAS"))
    with pytest.raises(InputError, match=reason) as error:
        register(*pair, QUICK, initial_transform=transform, progress=lambda event: steps.append(event.step))
    assert_readable(error)
    assert set(steps) <= {"preparation", "initial alignment"}


def test_sound_starts_of_every_kind_are_not_spoken_of():
    fixed = volume(empty_grid("LAS"))
    for transform in initial_transforms().values():
        assert check_initial_transform(transform, fixed) == []


def test_a_start_that_mirrors_folds_or_swells_is_said():
    fixed = volume(empty_grid("oblique"))
    mirrored = sitk.AffineTransform(3)
    mirrored.SetMatrix(mirror(0).ravel().tolist())
    assert "mirrors" in check_initial_transform(mirrored, fixed)[0]
    nested = sitk.CompositeTransform([rigid_transform(), sitk.CompositeTransform([mirrored, rigid_transform()])])
    assert "mirrors" in check_initial_transform(nested, fixed)[0]
    folding = field_transform(lambda points: points - 1.7 * points * (np.linalg.norm(points, axis=1) < 25.0)[:, None])
    assert "folds" in check_initial_transform(folding, fixed)[0]
    assert "factor of 1e+03" in check_initial_transform(sitk.ScaleTransform(3, (10.0, 10.0, 10.0)), fixed)[0]


def test_a_mirrored_start_is_said_in_the_result():
    moving = volume(empty_grid("RAS"))
    mirrored = sitk.AffineTransform(3)
    mirrored.SetMatrix(mirror(0).ravel().tolist())
    result = register(turned(moving, mirror(0)), moving, QUICK, initial_transform=mirrored)
    assert "mirrors" in result.messages[0]
    assert result.metrics["jacobian"]["max"] < 0.0
