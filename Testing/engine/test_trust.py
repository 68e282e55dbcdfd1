"""Tables of what can be trusted: verdicts are counted against the true error, and the fit finds a known relation."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from trust.expected import Model, Points, expected_error_table
from trust.runs import Run
from trust.trials import SABOTAGES
from trust.verdicts import verdict_table

POINTS = 4000


def run(name, level, mean_error_mm, kind="sound", group="phantom, lesion", seed=0):
    """A run whose error in cells of 2 mm is 3 times the first predictor to the power of 0.8, and scatters."""
    rng = np.random.default_rng(seed)
    predictors = rng.uniform(-2.0, 1.0, (POINTS, 3))
    error = 2.0 * 3.0 * np.exp(0.8 * predictors[:, 0]) * rng.gamma(4.0, 0.25, POINTS)
    reasons = () if level == "good" else ("Look twice.",)
    return Run(name, group, kind, level, reasons, mean_error_mm, predictors, error, 2.0)


def test_verdicts_are_counted_against_the_true_error_and_misses_are_named():
    table = verdict_table(
        [
            run("sound", "good", 1.0),
            run("doubted", "check", 1.5),
            run("between", "good", 3.0),
            run("lost", "failed", 9.0),
            run("missed", "good", 7.0),
            run("stranger", "good", None, "another patient"),
            run("mirror", "check", None, "mirrored"),
        ]
    )
    assert "| mean error below 2 mm | 2 | 1 | 1 | 0 | 0 |" in table
    assert "| 2 to 5 mm | 1 | 1 | 0 | 0 | 0 |" in table
    assert "| above 5 mm | 2 | 1 | 0 | 1 | 0 |" in table
    assert "not good above 5 mm: 1 of 2 (50 %)" in table
    assert "good below 2 mm: 1 of 2 (50 %)" in table
    assert "good although there is no right answer: 1 of 2 (50 %)" in table
    assert "missed: missed, 7.0 mm" in table
    assert "missed: stranger, no truth" in table
    assert "doubted: doubted, 1.5 mm: Look twice." in table


def test_the_fit_finds_a_known_relation_and_its_spread():
    points = Points.joined([Points.of(run("one", "good", 1.0, seed=seed)) for seed in range(3)])
    model = Model.fitted(points)
    assert model.intercept == pytest.approx(np.log(3.0), abs=0.05)
    assert model.coefficients == pytest.approx([0.8, 0.0, 0.0], abs=0.03)
    below = points.error_mm < model.spread * model.expected_mm(points)
    assert below.mean() == pytest.approx(0.9, abs=0.01)


def test_an_anatomy_is_also_judged_by_a_model_that_did_not_see_it():
    breast, brain = run("breast", "good", 1.0), run("brain", "good", 1.0, group="brain T1", seed=1)
    rows = expected_error_table([breast, brain], [brain]).splitlines()
    assert len(rows) == 3
    *_, without, bound = rows[2].strip("| ").split(" | ")
    assert float(without) == pytest.approx(brain.error_mm.mean(), rel=0.1)
    assert float(bound) == pytest.approx(90.0, abs=3.0)


@pytest.mark.parametrize("way", [way for way in SABOTAGES if way != "half outside"])
def test_a_sabotaged_volume_keeps_its_voxels_and_shows_them_elsewhere(way):
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((5, 6, 7)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    spoilt = SABOTAGES[way](image)
    before, after = (sitk.GetArrayFromImage(each) for each in (image, spoilt))
    assert np.array_equal(np.sort(before.ravel()), np.sort(after.ravel()))
    assert before.shape != after.shape or not np.array_equal(before, after)
    assert np.prod(spoilt.GetSpacing()) == pytest.approx(6.0)
