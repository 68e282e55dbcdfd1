"""The panel in the stand-in for the application; tests that need Qt are skipped where it cannot be loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTING = Path(__file__).parents[1]
MODULE = TESTING.parent / "FoundationRegistration" / "FoundationRegistration.py"
sys.path[:0] = [str(TESTING), str(TESTING / "stand_in"), str(TESTING / "engine")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# The engine's processes share the machine with the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

from stand_in.system_packages import why_no_qt  # noqa: E402

_NEED_NO_QT = "test_extension_files.py"


class _SkippedModule(pytest.Module):
    """A file of tests that is not even imported."""

    def collect(self) -> Any:
        pytest.skip(why_no_qt(), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    if module_path.name == _NEED_NO_QT or not why_no_qt():
        return None
    return _SkippedModule.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what Qt, VTK, threads and finalizers swallow fail a test; pytest-qt sees to slots, timers and observers."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in ("PytestUnhandledThreadExceptionWarning", "PytestUnraisableExceptionWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"error::pytest.{warning}"))


@pytest.fixture(scope="session")
def module(qapp: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The scripted module, loaded as the application does."""
    import application

    application.install(tmp_path_factory.mktemp("settings"))
    return application.load_module(MODULE)[0]


@pytest.fixture
def scene(module: Any) -> Iterator[Any]:
    """An empty scene."""
    import slicer

    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)


@pytest.fixture
def panel(module: Any, scene: Any, qtbot: Any) -> Iterator[Any]:
    """The open panel: the widget object of the module, as scripts in Slicer see it."""
    import application

    widget, container = application.open_panel(module)
    qtbot.addWidget(container)
    container.resize(430, 1500)
    container.show()
    yield widget
    application.close_panel(widget, container)


@pytest.fixture
def pair(scene: Any) -> dict[str, Any]:
    """Two small volumes with a segmentation of the fixed one, as nodes by role."""
    import numpy as np
    import slicer
    from FoundationRegistrationBridge.nodes.grids import image_from_array

    def volume(name: str, array: Any, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
        node = scene.AddNewNodeByClass(kind, name)
        node.SetAndObserveImageData(image_from_array(array))
        return node

    labels = np.ones((8, 9, 10), dtype=np.uint8)
    labels[4:] = 2
    labelmap = volume("labels", labels, "vtkMRMLLabelMapVolumeNode")
    structures = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "structures")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, structures)
    for index, name in enumerate(("breast", "organ")):
        structures.GetSegmentation().GetNthSegment(index).SetName(name)
    scene.RemoveNode(labelmap)
    values = np.random.default_rng(1).normal(100.0, 20.0, labels.shape).astype(np.float32)
    return {"fixed": volume("MRI", values), "moving": volume("CT", values[:, ::-1]), "fixed_labels": structures}
