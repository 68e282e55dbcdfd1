"""The verdict: good where a registration is right, never for another patient, with reasons that say where to look."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import anatomy, body_depth, empty_grid, field_transform, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.pipeline.assessment.agreement import Agreement
from FoundationRegistrationLib.pipeline.assessment.evidence import Evidence
from FoundationRegistrationLib.pipeline.assessment.fine_structure import FineStructure, measure_fine_structure
from FoundationRegistrationLib.pipeline.assessment.outlines import OutlineDistance, measure_outlines
from FoundationRegistrationLib.pipeline.assessment.overlaid import Overlaid
from FoundationRegistrationLib.pipeline.assessment.verdict import judge
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare

BRAINS = Path(os.environ.get("FOUNDATION_REGISTRATION_DATA", "../shared/data")) / "brain_intersubject"
IDENTITY = sitk.TranslationTransform(3)
ACCURATE = Evidence(
    in_common=0.9,
    agreement=Agreement(0.3, 0.4, 0.5, 0.1, 0.15, 0.2, "rotated", "mirrored left-right"),
    fine_structure=FineStructure(
        0.8, 0.2, 1.0, 0.6, sitk.Image(2, 2, 2, sitk.sitkFloat32), {"left front upper": 3.5}
    ),
    outlines=OutlineDistance(0.0, 2.0, "left front upper"),
    expected_error={"median_mm": 0.8, "not_known_percent": 5.0},
    one_modality=True,
    found_automatically=True,
)


def changed(**parts):
    """The evidence of an accurate registration with some values changed, such as `outlines={"worst_mm": 30.0}`."""
    return dataclasses.replace(
        ACCURATE,
        **{
            name: dataclasses.replace(getattr(ACCURATE, name), **value)
            if dataclasses.is_dataclass(getattr(ACCURATE, name)) and isinstance(value, dict)
            else value
            for name, value in parts.items()
        },
    )


def test_what_looks_right_in_every_measure_is_good():
    assert judge(ACCURATE).level == "good"
    assert judge(ACCURATE).reasons == ()
    other_contrast = changed(fine_structure={"agreement": 0.45, "one_sign": 0.3})
    assert judge(other_contrast).level == "good"
    other_foreground = changed(outlines={"worst_mm": 30.0, "worst": "left front upper"})
    assert judge(other_foreground).level == "good"
    other_modality = changed(fine_structure={"agreement": 0.5}, one_modality=False)
    assert judge(other_modality).level == "good"


@pytest.mark.parametrize(
    ("level", "words", "parts"),
    [
        ("failed", "Only 4 % of the patient", {"in_common": 0.04}),
        ("failed", "no better than by chance", {"agreement": {"start": 0.1, "after": 0.16}}),
        ("failed", "rotated by 90", {"agreement": {"turned": 0.9, "turn": "rotated by 90 degrees"}}),
        ("failed", "--initialization none", {"agreement": {"as_given": 0.9}}),
        ("failed", "less after the deformable stages", {"agreement": {"start": 0.8}}),
        (
            "failed",
            "hardly better than by chance (1.2 times)",
            {"fine_structure": {"agreement": 0.24, "one_sign": 0.5}},
        ),
        ("check", "1.80 times better than by chance", {"fine_structure": {"agreement": 0.36, "one_sign": 0.5}}),
        ("check", "another patient", {"fine_structure": {"agreement": 0.44}}),
        (
            "check",
            "left back lower",
            {"fine_structure": {"parts": {"left back lower": 1.2, "right front upper": 4.0}}},
        ),
        ("check", "Too little", {"fine_structure": None}),
        ("check", "Too little", {"fine_structure": {"compared": 0.02}}),
        (
            "check",
            "30 mm apart in the right front upper",
            {"outlines": {"worst_mm": 30.0, "worst": "right front upper"}},
        ),
        ("check", "expected error is 7.0 mm", {"expected_error": {"median_mm": 7.0, "not_known_percent": 5.0}}),
        ("check", "In 73 %", {"expected_error": {"median_mm": 1.0, "not_known_percent": 73.0}}),
    ],
)
def test_what_is_wrong_in_one_measure_is_said(level, words, parts):
    verdict = judge(changed(**parts))
    assert verdict.level == level
    assert words in " ".join(verdict.reasons)
    assert all(reason.endswith(".") and "\n" not in reason for reason in verdict.reasons)


def test_a_failure_is_said_alone():
    verdict = judge(changed(in_common=0.04, outlines={"worst_mm": 30.0}))
    assert verdict.level == "failed"
    assert len(verdict.reasons) == 1


def overlaid(fixed, moving, transform=IDENTITY):
    return Overlaid.of(prepare(fixed, "mr", "fixed"), prepare(moving, "mr", "moving"), transform, torch.device("cpu"))


def test_fine_structure_agrees_in_any_contrast_and_only_in_the_right_place():
    fixed, grid = volume(empty_grid("oblique"), smooth_warp), empty_grid("anisotropic")
    same = volume(grid)
    inside = 1.0 / (1.0 + np.exp(-body_depth(points_of(grid)) / 0.7))
    inverted = on_grid((inside * (900.0 - anatomy(points_of(grid))).clip(50.0)).astype(np.float32), grid)
    right, away = field_transform(), sitk.TranslationTransform(3, (9.0, -7.0, 8.0))
    found = {
        "right": measure_fine_structure(overlaid(fixed, same, right)),
        "other contrast": measure_fine_structure(overlaid(fixed, inverted, right)),
        "wrong place": measure_fine_structure(overlaid(fixed, same, away)),
    }
    assert found["right"].agreement > 0.7
    assert found["right"].one_sign > 0.95
    assert found["other contrast"].above_chance > 2.1
    assert found["wrong place"].above_chance < 1.6
    assert min(found["right"].parts.values()) > 2.0 > max(found["wrong place"].parts.values())
    assert 0.2 < found["right"].compared < 1.0


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "oblique"])
def test_outlines_that_differ_are_found_where_the_patient_has_them(orientation):
    """The moving body is cut off on its left, in front and above, whatever the order of its voxels."""
    fixed = volume(empty_grid("LPS"))
    grid = empty_grid(orientation)
    points = points_of(grid)
    centre = body_points_centre()
    gone = ((points - centre) @ np.diag([1.0, -1.0, 1.0]) > -8.0).all(1)
    whole = volume(grid)
    values = sitk.GetArrayFromImage(whole).ravel().copy()
    values[gone] = 0.0
    found = measure_outlines(overlaid(fixed, on_grid(values, whole)))
    assert found.worst == "left front upper"
    assert found.worst_mm > 4.0 > found.median_mm
    assert measure_outlines(overlaid(fixed, whole)).worst_mm < 3.0


def body_points_centre():
    fixed = volume(empty_grid("LPS"))
    inside = np.argwhere(sitk.GetArrayFromImage(prepare(fixed, "mr", "fixed").foreground) > 0)[:, ::-1]
    mask = prepare(fixed, "mr", "fixed").foreground
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(inside.mean(0).tolist()))


@pytest.fixture(scope="module")
def brains():
    if not BRAINS.is_dir():
        pytest.skip(f"no real data: {BRAINS} is absent; set FOUNDATION_REGISTRATION_DATA to its parent folder")
    return [sitk.ReadImage(str(BRAINS / f"{name}_T1.nii.gz"), sitk.sitkFloat32) for name in ("Subj8", "Subj5")]


def test_a_brain_is_good_with_itself_and_not_with_another_nor_with_its_mirror_image(brains):
    first, second = brains
    size = np.array(first.GetSize()) * first.GetSpacing()
    centre = np.array(first.TransformContinuousIndexToPhysicalPoint(((np.array(first.GetSize()) - 1) / 2).tolist()))

    def warped(point):
        """A bend of up to 6 mm."""
        wave = np.sin(2 * np.pi * (np.asarray(point) - centre) / size)
        return np.asarray(point) + 6.0 * wave[..., [1, 2, 0]]

    points = points_of(first).reshape(-1, 3)
    field = sitk.GetImageFromArray((warped(points) - points).reshape(*first.GetSize()[::-1], 3), isVector=True)
    field.CopyInformation(first)
    fixed = sitk.Resample(first, first, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    mirrored = sitk.Flip(first, [True, False, False])
    mirrored.CopyInformation(first)
    settings = Settings.from_preset(
        "longitudinal",
        working_spacing_mm=3.0,
        iterations=20,
        fluid_iterations=20,
        feature_cache_gb=0.0,
        device="cpu",
    )
    levels = [register(fixed, moving, settings).verdict.level for moving in (first, second, mirrored)]
    assert levels[0] == "good"
    assert "good" not in levels[1:]
