"""Real MRML without the application; see `Testing/stand_in/scene.py`."""

import os
import sys
from pathlib import Path

import pytest

_TESTING = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTING), str(_TESTING / "engine"), str(_TESTING.parent / "FoundationRegistration")]
# The engine's processes of several tests share the machine with this one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import slicer  # noqa: E402
from stand_in.scene import boot  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def temporary_folder(tmp_path_factory):
    """Where Slicer's temporary files go: a folder that no other program uses.

    Set for each file of tests anew: those of the panel, in the same process, bring an application of their own.
    """
    boot()
    before, folder = slicer.app.temporaryPath, tmp_path_factory.mktemp("slicer")
    slicer.app.temporaryPath = str(folder)
    yield folder
    slicer.app.temporaryPath = before


@pytest.fixture
def scene():
    """An empty scene, the one that `slicer.mrmlScene` is."""
    scene = boot()
    slicer.mrmlScene = scene
    scene.Clear(False)
    yield scene
    scene.Clear(False)
