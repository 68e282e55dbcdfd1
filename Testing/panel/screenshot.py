"""Pictures of the panel for the tutorial and for looking at it; drawn by the stand-in, so roughly as in Slicer.

`python Testing/panel/screenshot.py panel.png [--state opening|volumes|running|result|SECTION]`, where SECTION is one
of the closed sections: start, masks, driving, along, method, outputs, advanced or series. Without a state, all that a
person has seen at the end of the tutorial.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pictured import opened_panel, save

_WIDTH = 420
_PATIENCE_S = 600.0
_SPACING_MM = 2.0
_SECTIONS = ("start", "masks", "driving", "along", "method", "outputs", "advanced")
_STATES = ("opening", "volumes", "running", "series", "result", *_SECTIONS)


def panel_screenshot(path: Path, state: str = "result") -> None:
    """Bring the panel into a state with a phantom, and write a picture of it.

    Args:
        path: of a .png file.
        state: one of `_STATES`.
    """
    with opened_panel() as (widget, panel, qapp):
        panel.resize(_WIDTH, 100)
        _bring_into(state, widget, qapp)
        qapp.processEvents()
        panel.resize(_WIDTH, panel.sizeHint().height())
        qapp.processEvents()
        save(panel.grab(), path)


def _bring_into(state: str, widget: Any, qapp: Any) -> None:
    from driving import unfold

    ui = widget.ui
    if state == "opening":
        return
    if state == "series":
        _choose_series(ui)
        return
    nodes = choose_phantom(ui)
    if state in _SECTIONS:
        unfold(getattr(ui, f"{state}Section"))
        return
    if state == "volumes":
        return
    start(ui, nodes)
    wait(lambda: ui.progressBar.value > 0 if state == "running" else ui.applyButton.text == "Register", qapp)
    if state == "result":
        _measure(ui, nodes, qapp)


def choose_phantom(ui: Any, spacing_mm: float = _SPACING_MM) -> dict[str, Any]:
    """Choose a pair of sample data; return its nodes by role."""
    from driving import choose
    from FoundationRegistrationPanel.sample_data import add_phantom

    nodes = add_phantom("longitudinal", spacing_mm=spacing_mm)
    choose(ui.fixedVolumeSelector, nodes["fixed"].GetName())
    choose(ui.movingVolumeSelector, nodes["moving"].GetName())
    choose(ui.taskSelector, "Longitudinal MRI")
    return nodes


def _choose_series(ui: Any) -> None:
    import slicer
    from driving import choose, click
    from known_sequence import browser_of, sequence_of
    from volumes import empty_grid, volume

    _browser, proxy = browser_of(sequence_of(slicer.mrmlScene, [volume(empty_grid("LPS")) for _ in range(3)]))
    choose(ui.movingVolumeSelector, proxy.GetName())
    click(ui.proposalButton)


def start(ui: Any, nodes: dict[str, Any], spacing_mm: float = _SPACING_MM) -> None:
    """Click *Register*, with voxels of this size to work on."""
    import qt
    from driving import click

    ui.working_spacing_mmSetting.value = spacing_mm
    ui.followSelector.setCheckState(nodes["moving_labels"], qt.Qt.Checked)
    click(ui.applyButton)


def _measure(ui: Any, nodes: dict[str, Any], qapp: Any) -> None:
    from driving import choose, click, unfold

    for side in ("fixed", "moving"):
        for kind in ("Labels", "Points"):
            choose(getattr(ui, f"{side}{kind}Selector"), nodes[f"{side}_{kind.lower()}"].GetName())
    unfold(ui.qualitySection)
    qapp.processEvents()
    click(ui.qualityButton)


def wait(done: Callable[[], bool], qapp: Any) -> None:
    """Let the application live until something is done.

    Raises:
        TimeoutError: it takes too long.
    """
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError("The registration for the picture of the panel did not end.")
        qapp.processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--state", choices=_STATES, default="result")
    arguments = parser.parse_args()
    panel_screenshot(arguments.path, arguments.state)
