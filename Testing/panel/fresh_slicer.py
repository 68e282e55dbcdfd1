"""Opens the panel as in a Slicer that has none of the engine's packages yet, and uses it; ends on any exception.

Run in a process of its own with the root of the sources, a folder for settings, and the names of the packages that
are absent: those to import, a double dash, and those of their distributions.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

root, settings = Path(sys.argv[1]), Path(sys.argv[2])
absent, not_installed = sys.argv[3 : sys.argv.index("--")], set(sys.argv[sys.argv.index("--") + 1 :])
raised: list[str] = []


class WithoutPackages:
    """Finds modules and distributions as Python does, but for the absent ones."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return PathFinder.find_spec(name, path, target)

    def find_distributions(self, context: Any) -> Any:
        found = PathFinder.find_distributions(context)
        return (one for one in found if one.metadata["Name"].lower().replace("_", "-") not in not_installed)

    def invalidate_caches(self) -> None:
        PathFinder.invalidate_caches()


def note_exception(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """What Qt and VTK would swallow after printing it."""
    raised.append(f"{kind.__name__}: {error}")
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = note_exception
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutPackages()
sys.path[:0] = [str(root / "Testing"), str(root / "Testing" / "stand_in"), str(root / "Testing" / "panel")]

from PySide6.QtWidgets import QApplication  # noqa: E402

qapp = QApplication([])
import application  # noqa: E402
from driving import choose, click, unfold  # noqa: E402

application.install(settings)
module, _ = application.load_module(root / "FoundationRegistration" / "FoundationRegistration.py")
widget, panel = application.open_panel(module)
panel.show()
ui = widget.ui
from FoundationRegistrationLib.encoders import encoders  # noqa: E402

assert "Load two images" in ui.statusNote.text

# Every encoder, alone and for details, and every preset: what is said is about the choice made.
unfold(ui.advancedSection)
kinds = list(encoders().values())
for selector, offered in ((ui.encoderSelector, kinds), (ui.detail_encoderSetting, [None, *kinds])):
    titles = [selector.itemText(index) for index in range(selector.count)]
    for title, kind in zip(titles, offered, strict=True):
        choose(selector, title)
        assert ui.encoderNote.text
        needs_weights = kind is not None and bool(kind.weights)
        expected = "needed; whether they are on this machine" if needs_weights else "nothing to download"
        assert expected in ui.weightsNote.text, (title, ui.weightsNote.text)
    choose(selector, "MIND-SSC" if offered is kinds else titles[0])
for index in range(ui.presetSelector.count):
    choose(ui.presetSelector, ui.presetSelector.itemText(index))
    assert ui.presetNote.text and ui.weightsNote.text
import slicer.util  # noqa: E402

batch = slicer.util.childWidgetVariables(panel)
batch.batchTableEdit.text = "~/cohort.csv"
batch.batchTableEdit.editingFinished.emit()
assert batch.batchRunButton.enabled
assert not set(absent) & set(sys.modules), "opening the panel and choosing must not need a package"

# Register asks for the packages and says so; measuring works with what Slicer itself has.
import numpy as np  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from FoundationRegistrationBridge.nodes.grids import image_from_array  # noqa: E402
from FoundationRegistrationBridge.scene.transforms import store_record  # noqa: E402

absent.remove("SimpleITK")  # Slicer has its own
scene = slicer.mrmlScene
volumes = {}
for name in ("MRI", "CT"):
    volumes[name] = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    values = np.random.default_rng(1).normal(100.0, 20.0, (8, 9, 10)).astype(np.float32)
    volumes[name].SetAndObserveImageData(image_from_array(values))
choose(ui.fixedVolumeSelector, "MRI")
choose(ui.movingVolumeSelector, "CT")
choose(ui.taskSelector, "PET/CT to MRI")
click(ui.applyButton)
assert "install the extension 'PyTorch'" in ui.logText.plainText, ui.logText.plainText
transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "CT to MRI")
store_record(transform, {}, volumes["MRI"], volumes["CT"])
choose(ui.resultTransformSelector, "CT to MRI")
for section in (ui.resultSection, ui.petSection, ui.qualitySection):
    unfold(section)
for side in ("fixed", "moving"):
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{side} points")
    points.AddControlPoint(vtk.vtkVector3d(1.0, 2.0, 3.0), "tip")
    choose(getattr(ui, f"{side}PointsSelector"), f"{side} points")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", f"{side} labels")
    labels.SetAndObserveImageData(image_from_array(np.ones((8, 9, 10), np.uint8)))
    choose(getattr(ui, f"{side}LabelsSelector"), f"{side} labels")
click(ui.qualityButton)
assert ui.qualityTable.rowCount > 3
choose(ui.petVolumeSelector, "CT")
click(ui.petButton)
assert "has no units" in ui.petNote.text
application.close_panel(widget, panel)
qapp.processEvents()
sys.exit("\n".join(raised) or 0)
