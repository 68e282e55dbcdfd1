"""A picture of the whole module as in Slicer's window: the panel at the left, three slice views at the right.

The panel is drawn by the stand-in, so roughly as in Slicer; the slice views are Slicer's own, drawn by VTK.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pictured import opened_panel
from screenshot import choose_phantom, start, wait

_PANEL, _HEIGHT = 420, 760
_LARGE, _SMALL = (780, 440), (389, 296)
_SPACING_MM = 4.0
_BAR = 10
_GAP = 2
_LARGEST_BYTES = 300_000


def module_picture(path: Path) -> None:
    """Register a phantom in the panel, and write the picture of panel and slice views, which compare both volumes.

    Args:
        path: of a .png file.
    """
    with opened_panel() as (widget, panel, qapp):
        ui, nodes = widget.ui, choose_phantom(widget.ui, _SPACING_MM)
        start(ui, nodes, _SPACING_MM)
        wait(lambda: ui.applyButton.text == "Register", qapp)
        _write(_composed(_panel(ui, panel, qapp), _views(nodes["fixed"])), path)


def _panel(ui: Any, panel: Any, qapp: Any) -> Any:
    from driving import choose

    choose(ui.compareSelector, "checkerboard")
    panel.resize(_PANEL, _HEIGHT)
    for _ in range(3):
        qapp.processEvents()
    return panel.grab().toImage().copy(0, 0, _PANEL, _HEIGHT)


def _views(fixed: Any) -> list[tuple[Any, tuple[float, float, float]]]:
    """Return a picture (row, column, RGB) and the colour of each slice view, the axial one first."""
    sys.path.append(str(Path(__file__).parents[1] / "rendering"))
    import slicer.util
    from slice_view import SliceView
    from stand_in.scene import FOUR_UP_SLICES

    for drawn in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        drawn.GetDisplayNode().SetVisibility(False)  # it would hide the images
    bounds = [0.0] * 6
    fixed.GetRASBounds(bounds)
    middle = [(low + high) / 2.0 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    middle[0] += (bounds[1] - bounds[0]) / 4.0  # through one breast
    found = []
    for name, (orientation, colour) in FOUR_UP_SLICES.items():
        view = SliceView(name, _LARGE if orientation == "Axial" else _SMALL)
        view.look_at(fixed, tuple(middle))
        found.append((view.pixels(), colour))
    return found


def _composed(panel: Any, views: list[tuple[Any, tuple[float, float, float]]]) -> Any:
    """Return one picture: the panel, and beside it the first view above the other two, each below its colour."""
    from PySide6.QtGui import QColor, QImage, QPainter

    left = _PANEL + _GAP
    places = [(left, 0), (left, _LARGE[1] + _BAR + _GAP), (left + _SMALL[0] + _GAP, _LARGE[1] + _BAR + _GAP)]
    whole = QImage(left + _LARGE[0], _HEIGHT, QImage.Format.Format_RGB32)
    whole.fill(QColor("#606060"))
    painter = QPainter(whole)
    painter.drawImage(0, 0, panel)
    for (pixels, colour), (x, y) in zip(views, places, strict=True):
        height, width, _ = pixels.shape
        painter.fillRect(x, y, width, _BAR, QColor.fromRgbF(*colour))
        painter.drawImage(
            x, y + _BAR, QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        )
    painter.end()
    return whole


def _write(picture: Any, path: Path) -> None:
    from PIL import Image
    from PySide6.QtGui import QImage

    sys.path.append(str(Path(__file__).parents[1] / "tutorial"))
    from saving import write_small

    picture = picture.convertToFormat(QImage.Format.Format_RGBA8888)
    size = (picture.width(), picture.height())
    write_small(Image.frombytes("RGBA", size, bytes(picture.constBits())).convert("RGB"), path, _LARGEST_BYTES)


if __name__ == "__main__":
    module_picture(Path(sys.argv[1]))
