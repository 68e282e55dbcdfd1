"""Stand-in for the Slicer application around a panel: `slicer.app`, the module manager, loading a scripted module."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ctk
import mrml_widgets
import qt
import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets
from stand_in import scene as scene_stand_in

_SCRIPTS = Path(__file__).parent / "slicer_scripts"


class _ModuleManager(qt.facade(QtCore.QObject)):
    moduleAboutToBeUnloaded = QtCore.Signal(str)


class _Application(qt.facade(QtCore.QObject)):
    """The part of `slicer.app` that the panel and its base classes use."""

    startupCompleted = QtCore.Signal()
    applicationName = "Slicer stand-in"

    def __init__(self, stand_in: Any) -> None:
        super().__init__()
        self._stand_in = stand_in
        self._modules = _ModuleManager()
        self.temporaryPath = tempfile.gettempdir()

    def applicationLogic(self) -> Any:
        return self._stand_in.application_logic

    def mrmlScene(self) -> Any:
        return self._stand_in.scene

    def moduleManager(self) -> Any:
        return self._modules

    def testingEnabled(self) -> bool:
        return True  # message boxes are logged instead of shown

    def settings(self) -> Any:
        return qt.QSettings()

    def processEvents(self, *flags: Any) -> None:
        QtCore.QCoreApplication.processEvents()

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def translate(self, context: str, text: str) -> str:
        return text


def install(settings_folder: Path) -> Any:
    """Give `slicer` what the application adds to it; return the scene.

    Args:
        settings_folder: where `qt.QSettings` are kept, instead of the user's own.
    """
    QtCore.QCoreApplication.setOrganizationName("FoundationRegistrationTests")
    QtCore.QCoreApplication.setApplicationName("SlicerStandIn")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(
        QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(settings_folder)
    )
    stand_in = scene_stand_in.stand_in()
    slicer.app = _Application(stand_in)
    for widget in mrml_widgets.WIDGETS:
        setattr(slicer, widget.__name__, widget)
        qt.custom_widgets[widget.__name__] = widget
    qt.custom_widgets["ctkCollapsibleButton"] = ctk.ctkCollapsibleButton
    if str(_SCRIPTS) not in slicer.__path__:
        slicer.__path__.append(str(_SCRIPTS))
    return stand_in.scene


def load_module(path: Path) -> tuple[ModuleType, Any]:
    """Import a scripted module as the application does; return the Python module and its module object."""
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    python_module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = python_module
    specification.loader.exec_module(python_module)
    parent = SimpleNamespace(name=path.stem, path=str(path), icon=None)
    setattr(slicer.modules, path.stem.lower(), parent)
    return python_module, getattr(python_module, path.stem)(parent)


def open_panel(python_module: ModuleType) -> tuple[Any, Any]:
    """Make a module's widget inside a panel and enter it; return the widget object and the panel."""
    panel = mrml_widgets.qMRMLWidget()
    panel.setLayout(qt.QVBoxLayout())
    widget = getattr(python_module, f"{python_module.__name__}Widget")(panel)
    widget.setup()
    panel.isEntered = True
    widget.enter()
    return widget, panel


def close_panel(widget: Any, panel: Any) -> None:
    """Do what the application does when it closes a module's panel."""
    widget.cleanup()
    for child in panel.findChildren(QtWidgets.QWidget):
        if hasattr(child, "setMRMLScene"):
            child.setMRMLScene(None)
