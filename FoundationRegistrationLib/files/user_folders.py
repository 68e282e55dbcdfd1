"""Folders of the user, who may have none."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def user_cache() -> Path | None:
    """Return where this program keeps what it can do without; None for a user without a home folder."""
    try:
        folder = platformdirs.user_cache_path("FoundationRegistration", appauthor=False)
    except RuntimeError:  # HOME is not set, and the system does not list the user
        return None
    return folder if folder.is_absolute() else None  # older versions leave "~" as it is


def expanded(given: str) -> Path | None:
    """Return a path with its `~` resolved; None for a user who is not known or has no home."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return None
