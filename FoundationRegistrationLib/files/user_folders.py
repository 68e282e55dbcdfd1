"""Folders of the user, who may have none."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def user_cache() -> Path | None:
    """Return this program's cache folder; None for a user without a home folder."""
    try:
        folder = platformdirs.user_cache_path("FoundationRegistration", appauthor=False)
    except RuntimeError:  # HOME is not set, and the system does not know the user
        return None
    return folder if folder.is_absolute() else None  # older versions keep "~"


def expanded(given: str) -> Path | None:
    """Return a path with its `~` expanded; None if the user is unknown or has no home."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return None
