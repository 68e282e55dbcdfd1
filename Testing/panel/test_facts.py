"""What the panel says about presets, encoders, weights, time and memory is derived, never invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import qt


@pytest.fixture
def facts(module: Any) -> Any:
    from FoundationRegistrationPanel import facts

    return facts


@pytest.fixture
def settings(module: Any) -> Any:
    from FoundationRegistrationLib.settings import Settings

    return Settings(encoder="mind", working_spacing_mm=2.0, slice_gap=6)


def run(facts: Any, **changes: Any) -> Any:
    values = {
        "encoder": "mind",
        "device": "auto",
        "slice_gap": 6,
        "voxels": 1e6,
        "seconds": 40.0,
        "memory_bytes": 3e9,
    }
    return facts.Run(**{**values, **changes})


def test_no_estimate_before_a_run_of_the_same_kind(facts: Any, settings: Any) -> None:
    for runs in (
        [],
        [run(facts, encoder="litemedsam")],
        [run(facts, encoder="mind+litemedsam")],
        [run(facts, device="cuda")],
        [run(facts, slice_gap=1)],
    ):
        assert "available after the first run" in facts.estimate_line(runs, settings, 1e6)


def test_estimate_scales_what_was_measured(facts: Any, settings: Any) -> None:
    runs = [run(facts), run(facts, seconds=60.0), run(facts, seconds=50.0)]
    line = facts.estimate_line(runs, settings, 3e6)
    assert "About 2 min" in line and "9.0 GB" in line and "3 earlier" in line


def test_voxels_come_from_the_field_of_view(facts: Any, settings: Any) -> None:
    assert facts.fixed_voxels([-100, 100, -50, 50, 0, 40], settings) == pytest.approx(100 * 50 * 20)
    assert facts.fixed_voxels([1, -1, 1, -1, 1, -1], settings) == 0  # what an empty volume has as bounds


def test_history_is_kept_bounded_and_survives_damage(facts: Any, tmp_path: Path) -> None:
    def history() -> Any:
        return facts.RunHistory(qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.IniFormat))

    for seconds in range(60):
        history().add(run(facts, seconds=float(seconds)))
    assert [kept.seconds for kept in history().runs()] == [float(seconds) for seconds in range(10, 60)]
    qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.IniFormat).setValue("FoundationRegistration/Runs", "{")
    assert history().runs() == []


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
    from FoundationRegistrationPanel.words import in_panel_words

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
