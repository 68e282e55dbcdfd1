"""A picture of the Result section after a good, a doubtful and a failed registration, and after a failed run.

Drawn by the stand-in, so roughly as in Slicer; the figures are made up, so that each verdict is there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pictured import opened_panel, save

_WIDTH = 480
_GAP = 12
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


def result_picture(path: Path) -> None:
    """Write the picture, the four states beside each other.

    Args:
        path: of a .png file.
    """
    with opened_panel() as (widget, _, qapp):
        grabbed, nodes = [], _pair(widget)
        for level in _FIGURES:
            _show(widget, nodes, level)
            grabbed.append(_grab(widget, qapp))
        message = "The registration process was killed by the system, most likely for lack of memory; use a larger "
        widget._result.end(widget._parameterNode, f"{message}working spacing.", of_series=False)
        widget._result.show(widget._parameterNode)
        grabbed.append(_grab(widget, qapp))
        save(_beside_each_other(grabbed), path)


def _pair(widget: Any) -> dict[str, Any]:
    from FoundationRegistrationPanel.sample_data import add_phantom

    nodes = add_phantom("longitudinal", spacing_mm=6.0)
    widget._parameterNode.fixedVolume = nodes["fixed"]
    widget._parameterNode.movingVolume = nodes["moving"]
    return nodes


def _show(widget: Any, nodes: dict[str, Any], level: str) -> None:
    import slicer
    from FoundationRegistrationBridge.scene.transforms import store_record

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


def _grab(widget: Any, qapp: Any) -> Any:
    """Return a picture of the Result section."""
    section = widget.ui.resultSection
    window = section.window()
    for _ in range(3):
        qapp.processEvents()
        window.resize(_WIDTH, window.layout().sizeHint().height())
    section.adjustSize()
    qapp.processEvents()
    return section.grab().toImage()


def _beside_each_other(images: list[Any]) -> Any:
    from PySide6.QtGui import QImage, QPainter

    width = sum(image.width() for image in images) + _GAP * (len(images) - 1)
    whole = QImage(width, max(image.height() for image in images), QImage.Format.Format_RGB32)
    whole.fill(0xFFFFFF)
    painter, left = QPainter(whole), 0
    for image in images:
        painter.drawImage(left, 0, image)
        left += image.width() + _GAP
    painter.end()
    return whole


if __name__ == "__main__":
    result_picture(Path(sys.argv[1]))
