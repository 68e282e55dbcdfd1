"""Pictures of the Result section after a good, a doubtful and a failed registration, drawn by the stand-in.

python Testing/panel/result_pictures.py FOLDER
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_WIDTH = 480
_FIGURES = {
    "good": (0.9, 2.1, 2.0, 3.0),
    "check": (5.6, 12.3, 58.0, 21.0),
    "failed": (14.8, 31.0, 93.0, 40.0),
}
_REASONS = {
    "good": [],
    "check": [
        "The outlines of the body lie 14 mm apart in the left front lower part (3 mm overall).",
        "The expected error is 5.6 mm in the median.",
    ],
    "failed": [
        "The moving volume seems to be rotated by 180 degrees about the front-back axis; correct its orientation "
        "or start from landmarks, and run again."
    ],
}


def result_pictures(folder: Path) -> dict[str, int]:
    """Write `good.png`, `check.png`, `failed.png` and `error.png` into a folder; return the heights in pixels.

    The records shown are written here, so that each verdict has a picture without a registration.
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
        panel.show()
        heights = {}
        nodes = _pair(widget)
        for level in _FIGURES:
            _show(widget, nodes, level)
            heights[level] = _grab(widget, qapp, folder / f"{level}.png")
        message = "The registration process was killed by the system, most likely for lack of memory; use a larger "
        widget._result.end(widget._parameterNode, f"{message}working spacing.")
        widget._result.show(widget._parameterNode)
        heights["error"] = _grab(widget, qapp, folder / "error.png")
        application.close_panel(widget, panel)
        panel.close()
    return heights


def _pair(widget: Any) -> dict[str, Any]:
    from FoundationRegistrationPanel.sample_data import add_phantom

    nodes = add_phantom("longitudinal", spacing_mm=6.0)
    widget._parameterNode.fixedVolume = nodes["fixed"]
    widget._parameterNode.movingVolume = nodes["moving"]
    return nodes


def _show(widget: Any, nodes: dict[str, Any], level: str) -> None:
    import slicer
    from FoundationRegistrationBridge.transforms import store_record

    median, spread, above, unknown = _FIGURES[level]
    record = {
        "verdict": {"level": level, "reasons": _REASONS[level]},
        "messages": ["6 % of the patient in the moving volume lies outside the fixed volume."],
        "settings": {"encoder": "mind", "preset": "longitudinal"},
        "timings_seconds": {"preparation": 2.0, "initial alignment": 7.0, "fluid refinement": 41.0},
        "metrics": {
            "jacobian": {"folded_percent": 0.0, "mean": 1.007, "min": 0.8, "max": 1.24},
            "inverse_error_mm": {"mean": 0.02, "max": 0.39},
            "expected_error": {
                "median_mm": median,
                "spread_mm": spread,
                "above_5_mm_percent": above,
                "not_known_percent": unknown,
            },
        },
    }
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", f"{level} registration")
    store_record(node, record, nodes["fixed"], nodes["moving"])
    widget._parameterNode.resultTransform = node
    widget._parameterNode.resultVolume = nodes["moving"]
    widget._result.begin(widget._parameterNode, fade=True)
    widget._result.show(widget._parameterNode)


def _grab(widget: Any, qapp: Any, path: Path) -> int:
    """Write a picture of the Result section; return its height in pixels."""
    section = widget.ui.resultSection
    window = section.window()
    for _ in range(3):
        qapp.processEvents()
        window.resize(_WIDTH, window.layout().sizeHint().height())
    section.adjustSize()
    qapp.processEvents()
    if not section.grab().save(str(path)):
        raise OSError(f"The picture '{path}' cannot be written.")
    return section.height


if __name__ == "__main__":
    sys.stdout.write(f"{result_pictures(Path(sys.argv[1]))}\n")
