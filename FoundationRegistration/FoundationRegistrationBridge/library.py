"""Location of the engine: beside the installed module, one folder up in a source checkout, or in site-packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import slicer

from .errors import BridgeError

PACKAGE = "FoundationRegistrationLib"


def library_folder() -> Path:
    """Return the folder that holds the engine's package.

    Raises:
        BridgeError: it is not found.
    """
    module_folder = Path(__file__).resolve().parents[1]
    for folder in (module_folder, module_folder.parent):
        if (folder / PACKAGE / "__init__.py").is_file():
            return folder
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        msg = f"The library {PACKAGE} is missing; install the extension again, or add its whole folder to Slicer."
        raise BridgeError(msg)
    return Path(found.origin).parents[1]


def add_library_to_path() -> None:
    """Make the engine importable in this process; a second call changes nothing.

    Raises:
        BridgeError: it is not found.
    """
    folder = str(library_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # before any other installed copy


def python_executable() -> Path:
    """Return the Python with Slicer's packages: PythonSlicer in Slicer, whose executable is not a Python interpreter.

    Raises:
        BridgeError: Slicer's Python is missing.
    """
    home = getattr(getattr(slicer, "app", None), "slicerHome", None)
    if home is None:
        return Path(sys.executable)
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    for candidate in (shutil.which("PythonSlicer"), Path(home) / "bin" / name):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    msg = f"Slicer's Python ({name}) was not found in '{home}'; reinstall 3D Slicer."
    raise BridgeError(msg)


def worker_environment() -> dict[str, str]:
    """Return the environment of the engine's process: this one's, with the engine on its path and UTF-8 output."""
    path = [str(library_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"}
