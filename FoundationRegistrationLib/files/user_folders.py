"""Folders of the user, who may have none."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .home_folder import expanded

CACHE_VARIABLE = "FOUNDATION_REGISTRATION_CACHE"


def cache_root() -> Path | None:
    """Return the folder that CACHE_VARIABLE names, else this program's cache folder; None without a home folder."""
    given = os.environ.get(CACHE_VARIABLE)
    return expanded(given) if given else _user_cache()


def _user_cache() -> Path | None:
    try:
        folder = platformdirs.user_cache_path("FoundationRegistration", appauthor=False)
    except RuntimeError:  # HOME is not set, and the system does not know the user
        return None
    return folder if folder.is_absolute() else None  # older versions keep "~"
