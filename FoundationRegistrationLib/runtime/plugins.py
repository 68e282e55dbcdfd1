"""Plugins: objects that other packages declare as entry points of the groups `foundation_registration.*`."""

from __future__ import annotations

import logging
from functools import cache
from importlib import metadata
from typing import Any

_LOGGER = logging.getLogger(__name__)
_PREFIX = "foundation_registration."


@cache
def plugins(group: str) -> dict[str, Any]:
    """Return the objects that installed packages declare, by name; failing ones are skipped with a warning.

    Args:
        group: "encoders", "similarities" or "presets".
    """
    found: dict[str, Any] = {}
    for point in metadata.entry_points(group=_PREFIX + group):
        try:
            found[point.name] = point.load()
        except Exception as error:  # errors in plugins must not end this program
            _LOGGER.warning("'%s' of %s cannot be loaded: %s", point.name, _PREFIX + group, error)
    return found
