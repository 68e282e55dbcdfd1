"""Which paths can be read."""

from __future__ import annotations

import stat
from pathlib import Path


def is_regular_file(path: Path) -> bool:
    """Tell whether a path is a file whose end will be reached: no folder, device or pipe, and no impossible name."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; what no file system can name is none."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0
