"""What the panel says about presets, encoders, weights, time and memory is derived, never invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def facts(module: Any) -> Any:
    from FoundationRegistrationPanel.wording import facts

    return facts


def test_the_estimate_is_that_of_earlier_runs(facts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from FoundationRegistrationLib.pipeline.estimate.history import PastRun, kind_of, remember
    from FoundationRegistrationLib.settings import Settings

    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    settings = Settings(encoder="mind", working_spacing_mm=2.0, slice_gap=6)
    volume = (200, 100, 40), (1.0, 1.0, 1.0)
    nothing = facts.expected_run(settings, *volume)
    assert "available after the first run" in facts.estimate_line(nothing) and facts.expected_steps(nothing) == {}
    steps = {"reading": 10.0, "encoding": 110.0, "writing": 30.0}
    remember(PastRun(kind_of(settings), 1000, 1e5, 3_000_000_000, steps))
    expected = facts.expected_run(settings, *volume)
    line = facts.estimate_line(expected)
    assert "About 2 min" in line and "3.0 GB" in line and "1 earlier" in line
    assert facts.expected_steps(expected) == pytest.approx({"starting": 10.0, "encoding": 110.0, "done": 30.0})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (20.4, "20 s"), (100.0, "2 min"), (3500.0, "58 min"), (4300.0, "1 h 12 min")]
)
def test_duration_is_said_as_people_say_it(facts: Any, seconds: float, text: str) -> None:
    assert facts.duration(seconds) == text


def test_weights_are_named_with_size_and_licence(facts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    assert facts.weights_line(["mind"], "") == "Weights: nothing to download."
    line = facts.weights_line(["mind", "sam"], "")  # the second refines the first
    assert "375 MB" in line and "Apache-2.0" in line and "after you confirm" in line
    assert "by hand" in facts.weights_line(["dinov3"], "") and "https://ai.meta.com" in facts.weights_line(
        ["dinov3"], ""
    )


def test_weights_on_this_machine_are_found(facts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOUNDATION_REGISTRATION_WEIGHTS", str(tmp_path))
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"weights")
    assert facts.weights_line(["sam"], "") == "Weights: on this machine."


def test_encoders_are_told_with_the_one_for_details(facts: Any) -> None:
    assert facts.encoder_line(["mind"]).endswith("the same for every modality.")
    line = facts.encoder_line(["efficientnet-lite0", "mind"])
    assert "trained on: natural images (ImageNet)" in line and line.endswith("Details by MIND-SSC.")


def test_presets_and_settings_are_read_as_words(facts: Any) -> None:
    assert facts.preset_title("pet-ct-to-mri") == "PET/CT to MRI"
    assert facts.setting_title("working_spacing_mm") == "Working spacing (mm)"
    assert facts.setting_title("memory_budget_gb") == "Memory budget (GB)"
    assert facts.setting_title("smoothing_kernel") == "Smoothing kernel"


def test_messages_of_the_engine_are_said_in_the_words_of_the_panel(module: Any) -> None:
    """No option of the command line is shown in a panel; each is called as its row there."""
    from FoundationRegistrationPanel.wording.messages import in_panel_words

    for said, shown in (
        (
            "use a larger --working-spacing-mm, or --device cpu",
            "use a larger 'Working spacing (mm)', or 'Device: cpu'",
        ),
        ("start with --initialization none.", "start with 'Start: None'."),
        ("or --initialization, or another --region", "or 'Start', or another 'Region'"),
        ("17 % lies outside; --extent union keeps it.", "17 % lies outside."),
        ("17 % lies outside; use another --region.", "17 % lies outside; use another 'Region'."),
        ("T1 -- T2, 3-5", "T1 -- T2, 3-5"),
        ("", ""),
    ):
        assert in_panel_words(said) == shown
