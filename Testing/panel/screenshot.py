"""A picture of the panel after a registration, for the tutorial; drawn by the stand-in, so roughly as in Slicer."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_WIDTH = 540
_PATIENCE_S = 600.0


def panel_screenshot(path: Path) -> None:
    """Register a phantom through the panel, measure it, and write a picture of the panel.

    Args:
        path: of a .png file.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    testing = _HERE.parent
    sys.path[:0] = [str(_HERE), str(testing), str(testing / "stand_in")]
    from PySide6.QtWidgets import QApplication

    qapp = QApplication.instance() or QApplication([])
    import application
    import slicer

    with tempfile.TemporaryDirectory() as settings:
        application.install(Path(settings))
        module, _ = application.load_module(testing.parent / "FoundationRegistration" / "FoundationRegistration.py")
        slicer.mrmlScene.Clear(False)
        widget, panel = application.open_panel(module)
        panel.resize(_WIDTH, 100)
        panel.show()
        _register(widget, qapp)
        qapp.processEvents()
        panel.resize(_WIDTH, panel.sizeHint().height())
        qapp.processEvents()
        if not panel.grab().save(str(path)):
            raise OSError(f"The picture '{path}' cannot be written.")
        application.close_panel(widget, panel)
        panel.close()


def _register(widget: Any, qapp: Any) -> None:
    import qt
    from driving import choose, click, unfold
    from FoundationRegistrationPanel.sample_data import add_phantom

    nodes = add_phantom("longitudinal", spacing_mm=2.0)
    ui = widget.ui
    choose(ui.fixedVolumeSelector, nodes["fixed"].GetName())
    choose(ui.movingVolumeSelector, nodes["moving"].GetName())
    choose(ui.presetSelector, "Longitudinal")
    ui.working_spacing_mmSetting.value = 2.0
    ui.followSelector.setCheckState(nodes["moving_labels"], qt.Qt.Checked)
    click(ui.applyButton)
    began = time.monotonic()
    while ui.applyButton.text == "Cancel":
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError("The registration for the picture of the panel did not end.")
        qapp.processEvents()
        time.sleep(0.02)
    for side in ("fixed", "moving"):
        for kind in ("Labels", "Points"):
            choose(getattr(ui, f"{side}{kind}Selector"), nodes[f"{side}_{kind.lower()}"].GetName())
    unfold(ui.qualitySection)
    qapp.processEvents()
    click(ui.qualityButton)


if __name__ == "__main__":
    panel_screenshot(Path(sys.argv[1]))
