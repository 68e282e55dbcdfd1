"""Which paths can be read as files."""

from __future__ import annotations

import stat
from pathlib import Path


def is_regular_file(path: Path) -> bool:
    """Tell whether a path is a file whose end will be reached: no folder, device or pipe, and no impossible name."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
