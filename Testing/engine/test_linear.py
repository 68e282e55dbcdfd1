"""Rigid and affine registrations: linear transforms, without an encoder, that say what they do not know."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from small_runs import HALF_VOXEL_MM, quick, small_pair
from volumes import (
    assert_readable,
    body_points,
    empty_grid,
    mean_error,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib import InputError, Settings, SettingsError, register
from FoundationRegistrationLib.cli.main import main

STRETCH = np.array([1.06, 0.97, 1.04])


def stretched(points):
    return rigid_motion(points) * STRETCH


@pytest.fixture(scope="module")
def rigid_run(tmp_path_factory):
    """The folder of a rigid run on the command line, between an oblique and a sagittal anisotropic grid."""
    folder = tmp_path_factory.mktemp("rigid")
    sitk.WriteImage(volume(empty_grid("oblique"), rigid_motion), str(folder / "fixed.nii.gz"))
    sitk.WriteImage(volume(empty_grid("sagittal", (3, -2, 4))), str(folder / "moving.nrrd"))
    assert main([*command(folder, folder / "out"), "--stages", "rigid", "--maps"]) == 0
    return folder


def command(folder, output):
    options = ("--device", "cpu", "--progress", "none")
    return ["register", str(folder / "fixed.nii.gz"), str(folder / "moving.nrrd"), "--output", str(output), *options]


def test_a_rigid_run_writes_a_rigid_transform_and_its_inverse(rigid_run):
    out = rigid_run / "out"
    transform, inverse = (sitk.ReadTransform(str(out / f"{name}.h5")) for name in ("transform", "inverse"))
    assert transform.IsLinear()
    assert inverse.IsLinear()
    points = body_points(rigid_motion)
    assert mean_error(transform, rigid_motion, points) < HALF_VOXEL_MM
    assert np.abs(through(inverse, through(transform, points)) - points).max() < 1e-6
    assert {path.name for path in out.iterdir()} == {
        *("transform.h5", "inverse.h5", "initial_transform.h5"),
        *("warped.nii.gz", "jacobian.nii.gz", "report.json", "overview.png"),
    }, "no expected error is written, as it is not known"
    jacobian = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "jacobian.nii.gz")))
    assert np.abs(jacobian - 1.0).max() < 1e-5


def test_the_report_says_what_is_not_known(rigid_run):
    report = json.loads((rigid_run / "out" / "report.json").read_text())
    assert set(report["metrics"]["expected_error"].values()) == {None}
    assert "expected error is not known" in " ".join(report["messages"])
    assert report["verdict"]["level"] == "good"
    assert report["stages"] == []
    assert report["settings"]["stages"] == report["settings"]["initialization"] == "rigid"
    assert report["weights_sha256"] == {}, "nothing was encoded"


def test_a_report_of_a_rigid_run_repeats_it(rigid_run):
    again = rigid_run / "again"
    assert main([*command(rigid_run, again), "--settings", str(rigid_run / "out" / "report.json")]) == 0
    parameters = [sitk.ReadTransform(str(folder / "transform.h5")) for folder in (rigid_run / "out", again)]
    assert np.allclose(*(transform.GetParameters() for transform in parameters))
    assert "does not repeat" not in " ".join(json.loads((again / "report.json").read_text())["messages"])


def test_an_affine_run_finds_a_stretch_and_its_determinant():
    fixed, moving = volume(empty_grid("RAS"), stretched), volume(empty_grid("oblique", (3, -2, 4)))
    result = register(fixed, moving, Settings(device="cpu", stages="affine"))
    assert mean_error(result.transform, stretched, body_points(stretched)) < HALF_VOXEL_MM
    jacobian = sitk.GetArrayViewFromImage(result.jacobian)
    assert np.ptp(jacobian) < 1e-4
    assert jacobian.mean() == pytest.approx(STRETCH.prod(), abs=0.02)
    assert result.deformation is result.expected_error is result.error_predictors is None
    array, affine = result.displacement_array("LPS")
    corner = affine[:3, 3]
    assert np.allclose(corner + array[0, 0, 0], through(result.transform, corner[None])[0]), "sampled, not fitted"
    assert "affine" in repr(result)


def test_a_given_start_is_refined():
    fixed, moving = volume(empty_grid("LAS"), rigid_motion), volume(empty_grid("anisotropic", (3, -2, 4)))
    near = sitk.Euler3DTransform(rigid_transform())
    near.SetTranslation(np.add(near.GetTranslation(), (3.0, -2.0, 2.0)).tolist())
    result = register(fixed, moving, Settings(device="cpu", stages="rigid"), initial_transform=near)
    assert mean_error(result.transform, rigid_motion, body_points(rigid_motion)) < HALF_VOXEL_MM
    assert np.allclose(
        result.record["start"]["matrix"][0], [*near.GetMatrix()[:3], result.record["start"]["matrix"][0][3]]
    )
    assert result.record["initialization"] == "given transform"


def bent():
    grid = empty_grid("LPS")
    field = sitk.Image(grid.GetSize(), sitk.sitkVectorFloat64, 3)
    field.CopyInformation(grid)
    return sitk.DisplacementFieldTransform(field)


def mirror():
    return sitk.AffineTransform([-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0], [0.0, 0.0, 0.0])


@pytest.mark.parametrize(("start", "problem"), [(bent, "is not linear"), (mirror, "mirrors the volume")])
def test_a_start_that_is_not_rigid_at_all_is_refused(start, problem):
    with pytest.raises(InputError, match=problem) as error:
        register(*small_pair(), quick(stages="rigid"), initial_transform=start())
    assert_readable(error)


@pytest.mark.parametrize(
    "given",
    [{"fixed_lesion": 1}, {"region": 1}, {"stages": []}, {"preview_features": True}, {"encoder": "mind"}],
    ids=lambda given: next(iter(given)),
)
def test_what_acts_on_the_deformable_stages_is_refused(given):
    with pytest.raises(InputError, match="leave out one of them") as error:
        register(*small_pair(), quick(stages="affine"), **given)
    assert_readable(error)


def test_settings_that_contradict_each_other_are_refused_and_the_default_gives_way():
    assert Settings(stages="rigid").initialization == "rigid"
    assert Settings(stages="rigid", initialization="center").initialization == "center"
    assert Settings(stages="affine").encoders == ()
    with pytest.raises(SettingsError, match="leave out one"):
        Settings.from_preset("default", stages="rigid", initialization="affine")
    kept = dataclasses.replace(Settings(stages="rigid"), preset="longitudinal")
    assert Settings.from_dict(kept.to_dict()) == kept


def test_tissue_that_changed_its_shape_makes_a_rigid_result_one_to_check_not_a_failure():
    fixed, moving = volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))
    result = register(fixed, moving, Settings(device="cpu", stages="rigid", initialization="none"))
    assert result.verdict.level != "failed"
    assert "tissue that changed its shape is not matched" in " ".join(result.messages)
