"""Weights that are not on this machine: asked for before a run, and nothing happens without consent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer.util
from driving import choose, choose_pair, click
from stand_in_nodes import scene_state


@pytest.fixture
def ready(panel: Any, pair: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A panel that could register, on a machine without weights and without a network."""
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    return panel


def answer(monkeypatch: pytest.MonkeyPatch, yes: bool) -> list[str]:
    """Answer the question that the user would be asked; return the questions."""
    questions: list[str] = []

    def confirm(text: str) -> bool:
        questions.append(text)
        return yes

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirm)
    return questions


def test_question_names_size_licence_and_source_and_no_means_no(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answer(monkeypatch, yes=False)
    choose(ready.ui.encoderSelector, "SAM ViT-B/16")
    click(ready.ui.applyButton)
    assert ready.ui.applyButton.text == "Register"
    for part in ("375 MB", "Apache-2.0", "https://dl.fbaipublicfiles.com"):
        assert part in questions[0]


def test_failed_download_ends_in_words(ready: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any) -> None:
    answer(monkeypatch, yes=True)
    choose(ready.ui.encoderSelector, "SAM ViT-B/16")
    before = scene_state()
    click(ready.ui.applyButton)
    assert ready.ui.applyButton.text == "Cancel"
    qtbot.waitUntil(lambda: ready.ui.applyButton.text == "Register", timeout=60_000)
    assert "was not downloaded" in ready.ui.logText.plainText
    assert "Traceback" not in ready.ui.logText.plainText
    assert scene_state() == before


def test_weights_behind_a_login_are_explained(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answer(monkeypatch, yes=True)
    choose(ready.ui.encoderSelector, "DINOv3 ViT-S/16")
    assert "by hand" in ready.ui.weightsNote.text
    click(ready.ui.applyButton)
    assert questions == [] and "must be downloaded by hand" in ready.ui.logText.plainText
