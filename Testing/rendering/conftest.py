"""Slice views drawn off screen; tests that draw are skipped, with the command that helps, without OpenGL."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTING), str(_TESTING.parent / "FoundationRegistration")]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Draw last: once Mesa has drawn, PyTorch cannot load its compiler into the process; both bring an LLVM."""
    items.sort(key=lambda item: Path(__file__).parent in item.path.parents)


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty scene with Red, Yellow and Green slice views."""
    from stand_in.scene import boot

    scene = boot()
    scene.Clear(0)
    yield scene
    scene.Clear(0)


@pytest.fixture(scope="session")
def slice_view() -> Callable[[str], Any]:
    """Give a view that draws, by its layout name."""
    from slice_view import SliceView
    from stand_in.system_packages import COMMAND, can_draw

    if not can_draw():
        pytest.skip(f"no OpenGL library; run: {COMMAND}")
    return functools.cache(SliceView)
