"""The panel in the stand-in, for pictures: drawn roughly as in Slicer, and closed again."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TESTING = Path(__file__).parents[1]


@contextmanager
def opened_panel() -> Iterator[tuple[Any, Any, Any]]:
    """Open the panel over an empty scene; yield the module's widget, the panel and the Qt application."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(_TESTING), *(str(_TESTING / name) for name in ("panel", "stand_in", "mrml", "engine"))]
    from PySide6.QtWidgets import QApplication

    qapp = QApplication.instance() or QApplication([])
    import application
    import slicer

    with tempfile.TemporaryDirectory() as settings:
        application.install(Path(settings))
        module, _ = application.load_module(_TESTING.parent / "FoundationRegistration" / "FoundationRegistration.py")
        slicer.mrmlScene.Clear(False)
        widget, panel = application.open_panel(module)
        panel.show()
        yield widget, panel, qapp
        application.close_panel(widget, panel)
        panel.close()


def save(picture: Any, path: Path) -> None:
    """Write a picture of Qt.

    Raises:
        OSError: the file cannot be written.
    """
    if not picture.save(str(path)):
        raise OSError(f"The picture '{path}' cannot be written.")
