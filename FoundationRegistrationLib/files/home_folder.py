"""Paths that begin with `~`."""

from __future__ import annotations

from pathlib import Path


def expanded(given: str) -> Path | None:
    """Return a path with its `~` expanded; None if the user is unknown or has no home."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return None
