"""The measurement on a GPU, run on the CPU with tiny sizes: every line is there, and its checks can fail."""

import dataclasses
import importlib
import os
import threading
from pathlib import Path

import pytest

WHOLE_RUNS = [
    "MIND, 20 mm, cpu",
    "MIND, 20 mm, end to end",
    *(
        f"{encoder}, {precision}, {slices}20 mm, end to end"
        for encoder, slices in (
            ("SAM ViT-B/16", "every sixth slice, "),
            ("DINOv2 ViT-B/14", "every sixth slice, "),
            ("3D U-Net", ""),
        )
        for precision in ("float32", "bfloat16")
    ),
]
SIDE_BY_SIDE = [
    *(
        f"SAM ViT-B, {precision}, {side}, a slice"
        for precision in ("float32", "bfloat16")
        for side in ("ours", "segment-anything")
    ),
    *(f"ConvexAdam, 36 x 36 x 36, 12 channels, {side}, float32" for side in ("ours", "official")),
]
CHECKS = [
    "check: CPU and cpu agree to 0.02 voxel on average",
    "check: features of SAM in float32 agree with segment-anything to 0.001 of their size",
    "check: features of SAM in float32 agree with the CPU to 0.001 of their size",
]
GOALS = [
    "goal: MIND, 20 mm, end to end: under 3 s",
    "goal: SAM ViT-B/16, float32, every sixth slice, 20 mm, end to end: under 6 s",
    "goal: SAM ViT-B/16, bfloat16, every sixth slice, 20 mm, end to end: under 6 s",
    "goal: ConvexAdam, 36 x 36 x 36, 12 channels: at least 3 times as fast as the official package",
]


@pytest.fixture(scope="module")
def gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield importlib.import_module("gpu")


def lines_of(file):
    """Return the cells of each line of the tables, by its first cell."""
    rows = [line.strip("| ").split(" | ") for line in file.read_text(encoding="utf-8").splitlines() if "| " in line]
    return {cells[0]: cells[1:] for cells in rows}


def test_all_is_measured_and_checked(gpu, tmp_path):
    assert gpu.main(["--device", "cpu", "--small", "--seconds", "3000", "--output", str(tmp_path)]) == 0
    lines = lines_of(tmp_path / "gpu.md")
    assert "torch" in (tmp_path / "gpu.md").read_text(encoding="utf-8").split("|")[0]
    for what in WHOLE_RUNS:
        seconds, stages, peak, _ = lines[what]
        parts = [float(stage.rsplit(" ", 1)[1]) for stage in stages.split(", ")]
        assert {"encoding", "inverse and warp"} <= {stage.rsplit(" ", 1)[0] for stage in stages.split(", ")}
        assert 0 < sum(parts) <= float(seconds) + 0.005 * len(parts)
        assert float(peak) > 0
    for what in SIDE_BY_SIDE:
        assert float(lines[what][0]) > 0
    assert [lines[what][1] for what in CHECKS] == ["met"] * len(CHECKS)
    assert {lines[what][1] for what in GOALS} <= {"met", "**not met**"}


@pytest.fixture(scope="module")
def measured(gpu, tmp_path_factory):
    """Return the case and one run of it."""
    blocks = importlib.import_module("gpu_blocks")
    folder = tmp_path_factory.mktemp("phantom")
    gpu.write_pair(folder, small=True)
    case = gpu.read_case(folder, "cpu", small=True)
    return case, *blocks.registered(case, blocks.CPU, case.sizes.agreement_mm)


@pytest.mark.parametrize(("voxels", "met"), [(0.01, True), (0.03, False)])
def test_fields_that_differ_fail_the_check(gpu, measured, monkeypatch, voxels, met):
    import SimpleITK as sitk

    blocks = importlib.import_module("gpu_blocks")
    case, result, clock = measured
    shift = sitk.TranslationTransform(3, (0.0, voxels * case.sizes.agreement_mm, 0.0))
    disturbed = dataclasses.replace(result, transform=sitk.CompositeTransform([shift, result.transform]))
    runs = iter([(result, clock), (disturbed, clock)])
    monkeypatch.setattr(blocks, "registered", lambda *_: next(runs))
    *_, verdict = blocks.agreement(case)
    assert verdict.is_check
    assert verdict.met is met
    assert gpu.fails(verdict) is not met
    assert verdict.found.startswith(f"mean {voxels:.4f}")


def test_what_was_not_measured_is_written_and_fails(gpu, tmp_path):
    assert gpu.main(["--device", "cpu", "--small", "--seconds", "0", "--output", str(tmp_path)]) == 1
    lines = lines_of(tmp_path / "gpu.md")
    for block in ("agreement", "mind", "segment anything", "official cube"):
        assert lines[block][-1] == "**not measured further**: no time was left"


def test_without_a_gpu_it_says_so(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main(["--output", str(tmp_path)]) == 1
    assert "--device cpu --small" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def block_of_each_kind(name):
    """Give a line, then raise, hang, end the process, or come to the end."""
    yield f"{name} began"
    if name == "raises":
        msg = "the first line\nand more"
        raise RuntimeError(msg)
    if name == "hangs":
        threading.Event().wait()
    if name == "dies":
        os._exit(3)
    yield f"{name} is done"


def test_a_block_that_fails_leaves_what_it_gave_and_the_others_run(gpu):
    supervised = importlib.import_module("supervised")
    limits = {"raises": 600.0, "sound": 600.0, "dies": 600.0, "hangs": 1.0, "last": 600.0}
    given = list(supervised.supervised(block_of_each_kind, limits, 1000.0))
    assert [line for line in given if line != "hangs began"] == [
        "raises began",
        supervised.Ended("raises", "RuntimeError: the first line"),
        "sound began",
        "sound is done",
        "dies began",
        supervised.Ended("dies", "its process ended without a word"),
        supervised.Ended("hangs", "stopped after 1 s"),
        "last began",
        "last is done",
    ]
