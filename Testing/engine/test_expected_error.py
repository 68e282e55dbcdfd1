"""The expected error: large where it should be, in mm, on the right grid, and honest where nothing is known."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.stats import spearmanr
from volumes import body_points, empty_grid, noise, on_grid, points_of, smooth_warp, through, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.convex_adam.error_predictors import MEASURES, local_measures
from FoundationRegistrationLib.convex_adam.similarities import Term
from FoundationRegistrationLib.pipeline.assessment import fitted_error
from FoundationRegistrationLib.pipeline.assessment.expected_error import LARGEST_MM, PREDICTORS, expected_error
from FoundationRegistrationLib.spatial.points import transform_points
from FoundationRegistrationLib.spatial.windows import mean_around

SHAPE = (14, 16, 20)
NOWHERE = torch.zeros(3, *SHAPE)
LEFT, RIGHT = (slice(3, -3), slice(3, -3), slice(2, 7)), (slice(3, -3), slice(3, -3), slice(13, 18))
ERASED = np.array([0.0, 0.0, 14.0])


def texture(seed=0, channels=4):
    """(C, z, y, x) smooth features, as anatomy gives them."""
    features = mean_around(noise(seed, channels, *SHAPE), 1)
    return (features - features.mean()) / features.std()


def error_for(terms, displacement=NOWHERE, others=(NOWHERE,), cell_mm=4.0):
    """Expected error where fine structure agrees e times better than by chance."""
    measures = local_measures(terms, displacement, others)
    return expected_error(torch.cat([measures, torch.ones_like(measures[:1])]), cell_mm)


def error_of(fixed, moving, displacement=NOWHERE, others=(NOWHERE,), weight=None, cell_mm=4.0):
    return error_for([Term(fixed, moving, weight)], displacement, others, cell_mm)


def measure(name, fixed, moving, displacement=NOWHERE, others=(NOWHERE,)):
    return local_measures([Term(fixed, moving, None)], displacement, others)[MEASURES.index(name)]


def with_noise(features, seed):
    return features + 0.1 * texture(seed)


# ---- signs of trouble ----


def test_a_place_without_texture_is_trusted_less():
    anatomy = texture()
    anatomy[..., 10:] = 0.0
    error = error_of(with_noise(anatomy, 1), with_noise(anatomy, 2))
    assert error[RIGHT].mean() > 1.2 * error[LEFT].mean()


def test_what_one_side_lacks_is_trusted_less():
    fixed, moving = texture(), texture()
    moving[..., 10:] = texture(5)[..., 10:]
    error = error_of(with_noise(fixed, 1), with_noise(moving, 2))
    assert error[RIGHT].mean() > 1.2 * error[LEFT].mean()


def test_a_displacement_beside_the_minimum_is_trusted_less():
    anatomy = texture()
    shifted = torch.zeros(3, *SHAPE)
    shifted[1, ..., 10:] = 2.0
    sharp, beside = (measure("width", anatomy, anatomy, field)[RIGHT].mean() for field in (NOWHERE, shifted))
    assert beside > sharp + 1.0


def test_searches_that_disagree_are_trusted_less():
    anatomy = texture()
    other = torch.zeros(3, *SHAPE)
    other[0, ..., 10:] = 3.0
    error = error_of(anatomy, anatomy, others=(NOWHERE, other))
    assert error[RIGHT].min() > error[LEFT].max()
    nearer = error_of(anatomy, anatomy, others=(NOWHERE, other / 3))
    assert error[RIGHT].mean() > nearer[RIGHT].mean()


def test_every_sign_of_trouble_raises_the_expected_error():
    coefficients = {name: coefficient for name, (coefficient, *_) in fitted_error.COEFFICIENTS.items()}
    assert tuple(coefficients) == PREDICTORS
    assert coefficients.pop("structure") < 0
    assert all(coefficient > 0 for coefficient in coefficients.values())
    assert all(low < high for _, low, high in fitted_error.COEFFICIENTS.values())
    assert fitted_error.SPREAD > 1.0


# ---- scale ----


def test_the_error_scales_with_the_cells_and_not_with_the_features():
    fixed, moving = with_noise(texture(), 1), with_noise(texture(), 2)
    error = error_of(fixed, moving)
    assert torch.allclose(error_of(fixed, moving, cell_mm=8.0), 2.0 * error)
    assert torch.allclose(error_of(30.0 * fixed, 30.0 * moving), error, rtol=1e-3)


def test_terms_count_by_their_weight():
    good, bad = (with_noise(texture(), 1), with_noise(texture(), 2)), (texture(3), texture(4))
    none, all_of_it = torch.full(SHAPE, 1e-6), torch.ones(SHAPE)
    alone = error_of(*good)
    for weight, same in ((none, True), (all_of_it, False)):
        terms = [Term(*good, all_of_it), Term(*bad, weight)]
        error = error_for(terms)
        assert torch.allclose(error, alone, rtol=1e-2) == same


def test_features_taken_a_few_at_a_time_give_the_same(monkeypatch):
    fixed, moving = with_noise(texture(), 1), with_noise(texture(), 2)
    together = error_of(fixed, moving)
    monkeypatch.setattr("FoundationRegistrationLib.convex_adam.error_predictors._VALUES_AT_ONCE", 1)
    assert torch.allclose(error_of(fixed, moving), together)


# ---- what is not known ----


def test_where_nothing_was_compared_nothing_is_known():
    anatomy = texture()
    weight = torch.ones(SHAPE)
    weight[..., 10:] = 0.0
    error = error_of(anatomy, anatomy, weight=weight)
    assert error[..., 10:].isnan().all()
    assert (error[..., :10] <= LARGEST_MM).all()
    assert (error[..., :10] > 0).all()


def test_extremes_stay_finite():
    extremes = torch.tensor([[-torch.inf, torch.inf, 1e30, -1e30]]).expand(len(PREDICTORS), -1)
    error = expected_error(extremes, 1000.0)
    assert (error > 0).all()
    assert (error <= LARGEST_MM).all()
    even = error_of(torch.zeros(2, *SHAPE), torch.zeros(2, *SHAPE))
    assert torch.isfinite(even).all()


# ---- whole registrations ----


def erased(image):
    """The volume without its texture in a ball, as after surgery or behind an artefact."""
    points = points_of(image)
    values = sitk.GetArrayFromImage(image).ravel().copy()
    gone = np.linalg.norm(points - ERASED, axis=1) < 12.0
    values[gone] = values[gone].mean()
    return on_grid(values, image)


@pytest.fixture(scope="module")
def runs():
    """Oblique to sagittal, the moving volume whole and with a part erased: fixed volume and two results."""
    fixed = volume(empty_grid("oblique"), smooth_warp)
    moving = volume(empty_grid("sagittal", (3, -2, 4)))
    settings = Settings(encoder="mind", working_spacing_mm=2.5, grid_spacing=4, initialization="none", device="cpu")
    return fixed, [register(fixed, image, settings) for image in (moving, erased(moving))]


def at(image, points):
    """Values of an image at physical points, linearly."""
    return np.array([image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in points.tolist()])


@pytest.fixture(scope="module")
def told(runs):
    """At points of the body: where the erased part is, and of both runs the expected and the true error in mm."""
    _, results = runs
    points = body_points(smooth_warp, 3.0)
    there = np.linalg.norm(smooth_warp(points) - ERASED, axis=1) < 7.0
    expected = [at(result.expected_error, points) for result in results]
    error = [np.linalg.norm(through(r.transform, points) - smooth_warp(points), axis=1) for r in results]
    return there, expected, error


def test_an_erased_structure_is_trusted_less_than_the_same_place_whole(told):
    there, expected, error = told
    rise = expected[1] / expected[0]
    assert rise[there].mean() > max(1.3, rise[~there].mean() + 0.2)
    for run in (0, 1):
        assert expected[run][there].mean() / error[run][there].mean() > 0.5


@pytest.mark.xfail(
    strict=True,
    reason="since intensities refine the field, it is a tenth of a cell off in this body; the map, fitted on "
    "synthetic breasts, expects more and does not rank errors as small as that",
)
def test_expected_errors_are_of_the_size_of_the_true_ones_and_rank_them(told):
    there, expected, error = told
    for run in (0, 1):
        assert expected[run][there].mean() / error[run][there].mean() < 2.0
    assert spearmanr(expected[0], error[0])[0] > 0.3


def test_the_map_lies_on_the_grid_of_the_displacement_and_knows_nothing_of_the_air(runs):
    _, (result, _) = runs
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(result.expected_error, name)() == getattr(result.displacement, name)()
    values = sitk.GetArrayViewFromImage(result.expected_error)
    border = [values[0], values[-1], values[:, 0], values[:, -1], values[..., 0], values[..., -1]]
    assert all(np.isnan(face).all() for face in border)
    inside = at(result.expected_error, body_points(smooth_warp))
    assert np.isnan(inside).mean() < 0.02
    assert 0.1 < np.nanmedian(inside) < 5.0


def test_the_record_says_how_far_the_result_can_be_trusted(runs):
    _, (whole, part) = runs
    figures = [result.metrics["expected_error"] for result in (whole, part)]
    assert figures[0]["median_mm"] < figures[0]["percentile_95_mm"]
    assert figures[0]["percentile_95_mm"] < figures[1]["percentile_95_mm"]
    for figure in figures:
        assert figure["above_5_mm_percent"] + figure["not_known_percent"] <= 100.0
        assert figure["not_known_percent"] < 5.0


def test_what_only_one_volume_shows_is_not_known():
    fixed = volume(empty_grid("LPS"))
    upper = sitk.RegionOfInterest(fixed, [fixed.GetWidth(), fixed.GetHeight(), fixed.GetDepth() // 2], [0, 0, 20])
    settings = Settings(encoder="mind", working_spacing_mm=4.0, initialization="none", iterations=5, device="cpu")
    result = register(fixed, upper, settings)
    points = body_points()
    seen = points[:, 2] > upper.GetOrigin()[2] + 12.0
    expected = at(result.expected_error, points)
    assert result.metrics["expected_error"]["not_known_percent"] > 25.0
    assert result.metrics["expected_error"]["percentile_95_mm"] < LARGEST_MM
    deep = points[:, 2] < upper.GetOrigin()[2] - 12.0
    assert np.isnan(expected[seen]).mean() < 0.1
    assert np.isnan(expected[deep]).all()


def test_the_command_line_writes_the_map_and_says_it_in_words(tmp_path, capsys):
    fixed = volume(empty_grid("oblique"), smooth_warp)
    sitk.WriteImage(fixed, str(tmp_path / "fixed.nrrd"))
    sitk.WriteImage(volume(empty_grid("anisotropic")), str(tmp_path / "moving.nrrd"))
    command = ["register", str(tmp_path / "fixed.nrrd"), str(tmp_path / "moving.nrrd"), "--maps", "--progress=none"]
    fast = ["--encoder=mind", "--working-spacing-mm=4", "--iterations=5", "--initialization=none"]
    assert main([*command, *fast, "--output", str(tmp_path / "result")]) == 0
    assert "expected error:" in capsys.readouterr().err
    expected = sitk.ReadImage(str(tmp_path / "result" / "expected_error_mm.nrrd"))
    jacobian = sitk.ReadImage(str(tmp_path / "result" / "jacobian.nii.gz"))
    assert expected.GetSize() == jacobian.GetSize()
    assert expected.GetOrigin() == pytest.approx(jacobian.GetOrigin(), abs=1e-4)
    assert expected.GetSpacing() == pytest.approx(jacobian.GetSpacing())
    field = sitk.ReadTransform(str(tmp_path / "result" / "transform.h5"))
    assert np.isfinite(transform_points(field, body_points())).all()
    assert np.isnan(sitk.GetArrayViewFromImage(expected)).any()  # the air around the body, not 0 mm
    assert np.nanmin(at(expected, body_points(smooth_warp))) > 0.0
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    assert report["metrics"]["expected_error"]["median_mm"] < LARGEST_MM
