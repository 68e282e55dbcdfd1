"""What others build on: the examples of the documentation, plugins, stages and encoders of their own."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import body_depth, empty_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.convex_adam import (
    Diffusion,
    DiscreteSearch,
    InstanceOptimisation,
    SharedRefinement,
    stages_of,
)
from FoundationRegistrationLib.errors import InputError, SettingsError
from FoundationRegistrationLib.settings import read_settings_file

PAGE = Path(__file__).parents[2] / "Resources" / "Documentation" / "pages" / "extend.md"
ENCODER, USE, SWEEP, PARTS, PLUGIN = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
COARSE = {"working_spacing_mm": 6.0, "grid_spacing": 4, "feature_cache_gb": 0.0, "device": "cpu"}


@pytest.fixture(scope="module")
def pair():
    return volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("anisotropic"))


def error_mm(transform):
    """Mean distance from the true place, over the body of the fixed volume."""
    points = points_of(empty_grid("oblique"))
    points = points[body_depth(smooth_warp(points)) > 2.0][::500]
    found = np.array([transform.TransformPoint(point) for point in points.tolist()])
    return float(np.linalg.norm(found - smooth_warp(points), axis=1).mean())


def test_a_sweep_over_two_pairs_prints_dice(capsys):
    assert len(SWEEP.splitlines()) <= 40
    names = {}
    exec(compile(SWEEP.replace("spacing_mm=5.0", "spacing_mm=8.0"), PAGE.name, "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["lambda 0.3", "lambda 1.25", "lambda 5"]
    assert all(0.5 < value < 1.0 for values in names["found"].values() for value in values)
    assert len({value for values in names["found"].values() for value in values}) == 6, "lambda has an effect"


def test_a_class_of_fifteen_lines_is_an_encoder(pair):
    assert len(ENCODER[ENCODER.index("class") :].strip().splitlines()) <= 15
    torch.manual_seed(0)
    names = {"fixed": pair[0], "moving": pair[1]}
    exec(compile(ENCODER, PAGE.name, "exec"), names)
    names["coarse"] = {**COARSE, "initialization": "none"}
    exec(compile(USE.replace("slice_gap=2", "slice_gap=2, **coarse"), PAGE.name, "exec"), names)
    result = names["result"]
    assert result.record["settings"]["encoder"] == "ResNetEncoder"
    assert len(result.metrics["explained_variance"]["ResNetEncoder"]) == 24
    # Random weights: its features alone align the shifted volumes better than no deformable stage does.
    assert error_mm(result.transform) < error_mm(result.initial_transform)


def own_stages_run(pair):
    names = {"fixed": pair[0], "moving": pair[1], "torch": torch, "register": register, "Settings": Settings}
    names["coarse"] = COARSE
    example = PARTS.replace('Settings(encoder="mind")', 'Settings(encoder="mind", **coarse)')
    exec(compile(example.replace("DiscreteSearch()", "DiscreteSearch(spacing=4)"), PAGE.name, "exec"), names)
    return names["robust"]


def test_each_stage_leaves_its_displacement_and_a_place_in_the_record(pair):
    result = own_stages_run(pair)
    stages = [name for name, _ in result.intermediate.displacements]
    assert stages == ["DiscreteSearch", "InstanceOptimisation", "Halved"]
    searched, refined, halved = (sampled for _, sampled in result.intermediate.displacements)
    assert np.allclose(halved.array, 0.5 * refined.array)
    assert not np.allclose(searched.array, refined.array)
    # The last one is the deformable part of the transform, where that is not tapered.
    there = sitk.Resample(result.deformation, halved.image(), sitk.Transform(), sitk.sitkLinear)
    assert np.abs(sitk.GetArrayFromImage(there) - halved.array)[3:-3, 3:-3, 3:-3].max() < 1e-3
    fixed, moving = result.intermediate.features["mind"]
    assert fixed.array.shape == moving.array.shape == (*halved.array.shape[:3], 12)
    recorded = json.loads(json.dumps(result.record))["stages"]
    assert recorded[1]["descent"]["similarity"]["scale"] == 0.1
    assert recorded[2]["class"].endswith("Halved")


def test_without_stages_the_settings_decide_and_the_record_says_how(pair):
    settings = Settings(encoder="mind", iterations=20, fluid_iterations=0, **COARSE)
    plain = register(*pair, settings)
    given = register(*pair, settings, stages=stages_of(settings))
    assert np.array_equal(sitk.GetArrayFromImage(plain.deformation), sitk.GetArrayFromImage(given.deformation))
    assert plain.record["stages"] == given.record["stages"]
    assert not plain.record["own_stages"] and not given.record["own_stages"], "settings can repeat both"
    assert [stage["class"] for stage in plain.record["stages"]] == ["DiscreteSearch", "InstanceOptimisation"]
    assert plain.record["stages"][1]["descent"]["regulariser"] == {"class": "Diffusion", "strength": 1.25}
    assert plain.intermediate is None


def test_two_encoders_named_beside_the_settings_work_together(pair):
    settings = Settings(encoder="mind", iterations=8, fluid_iterations=0, slice_gap=8, **COARSE)
    beside = register(*pair, settings, encoder="efficientnet-lite0+mind")
    within = register(*pair, dataclasses.replace(settings, encoder="efficientnet-lite0", detail_encoder="mind"))
    assert np.array_equal(sitk.GetArrayFromImage(beside.deformation), sitk.GetArrayFromImage(within.deformation))
    assert beside.record["settings"] == within.record["settings"]
    assert "SharedRefinement" in [stage["class"] for stage in beside.record["stages"]]


def test_a_record_of_stages_of_your_own_is_not_repeated_without_them(pair, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(dict(register(*pair, Settings(encoder="mind", **COARSE), stages=[]).record)))
    with pytest.raises(SettingsError, match="repeat it from Python"):
        read_settings_file(path)


def test_stages_that_cannot_follow_each_other_are_refused(pair):
    settings = Settings(encoder="mind", **COARSE)
    with pytest.raises(SettingsError, match="two encoders"):
        register(*pair, settings, stages=[DiscreteSearch(4), SharedRefinement()])
    with pytest.raises(SettingsError, match="multiple"):
        register(*pair, settings, stages=[DiscreteSearch(3), InstanceOptimisation()])
    with pytest.raises(SettingsError, match="Unknown similarity 'telepathy'"):
        register(*pair, dataclasses.replace(settings, similarity="telepathy"))


def test_a_slice_encoder_may_say_that_it_reaches_nowhere(pair):
    class Brightness:
        reach = 0

        def encode(self, images):
            return torch.nn.functional.avg_pool2d(images[:, None], 8)

    result = register(*pair, Settings(**COARSE, components=1), encoder=Brightness(), stages=[DiscreteSearch(4)])
    assert result.metrics["encoded_slices"]["Brightness"] > 0


def test_an_encoder_that_returns_no_features_is_refused(pair):
    class Wrong:
        def encode(self, images):
            return images

    with pytest.raises(InputError, match="its `encode` must return"):
        register(*pair, Settings(**COARSE), encoder=Wrong())


def test_a_regulariser_of_your_own_is_asked(pair):
    asked = []

    @dataclasses.dataclass(frozen=True)
    class Counted(Diffusion):
        def add_to(self, gradient, displacement):
            asked.append(tuple(displacement.shape))
            return super().add_to(gradient, displacement)

    settings = Settings(encoder="mind", iterations=8, **COARSE)
    search, optimisation = stages_of(settings)[:2]
    descent = dataclasses.replace(optimisation.descent, regulariser=Counted(1.25))
    own = register(*pair, settings, stages=[search, InstanceOptimisation(descent)])
    plain = register(*pair, settings, stages=[search, optimisation])
    assert len(asked) >= 8
    assert np.array_equal(sitk.GetArrayFromImage(own.deformation), sitk.GetArrayFromImage(plain.deformation))


@pytest.fixture
def plugin(tmp_path):
    """A folder with an installed package that adds an encoder, a similarity and a preset, and one that is broken."""
    code = "\n".join(["import torch", ENCODER, PARTS[: PARTS.index("stages = [")], PLUGIN])
    (tmp_path / "my_package.py").write_text(code, encoding="utf-8")
    (tmp_path / "broken_package.py").write_text("1 / 0\n", encoding="utf-8")
    groups = {
        "encoders": "resnet18 = my_package:RESNET",
        "similarities": "charbonnier = my_package:CHARBONNIER\nwrong = broken_package:ONE",
        "presets": "robust = my_package:ROBUST",
    }
    points = "".join(f"[foundation_registration.{group}]\n{lines}\n" for group, lines in groups.items())
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    return tmp_path


def command(folder, *arguments):
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(folder), str(root)])
    return subprocess.run(
        [sys.executable, "-m", "FoundationRegistrationLib", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plugin_appears_and_runs_without_a_change_here(plugin, pair, tmp_path):
    assert "robust" in command(plugin, "register", "--help").stdout
    assert "resnet18" in command(plugin, "encoders").stdout
    for name, image in zip(("fixed", "moving"), pair, strict=True):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    options = ("--working-spacing-mm", "6", "--grid-spacing", "4", "--feature-cache-gb", "0", "--progress", "none")
    options += ("--slice-gap", "12", "--fluid-iterations", "0")
    done = command(
        plugin,
        "register",
        str(tmp_path / "fixed.nii.gz"),
        str(tmp_path / "moving.nii.gz"),
        "--output",
        str(tmp_path / "result"),
        "--preset",
        "robust",
        *options,
    )
    assert done.returncode == 0, done.stderr
    assert "'wrong' of foundation_registration.similarities cannot be loaded: division by zero" in done.stderr
    report = json.loads((tmp_path / "result" / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["encoder"] == "resnet18"
    assert report["stages"][1]["descent"]["similarity"] == {"class": "my_package.Charbonnier", "scale": 0.1}


def test_without_the_plugin_its_names_are_unknown(capsys):
    assert main(["register", "a.nii", "b.nii", "--output", "c", "--encoder", "resnet18"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
