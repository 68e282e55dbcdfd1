"""What other packages add: objects they declare as entry points of groups `foundation_registration.*`."""

from __future__ import annotations

import logging
from functools import cache
from importlib import metadata
from typing import Any

_LOGGER = logging.getLogger(__name__)
_PREFIX = "foundation_registration."


@cache
def plugins(group: str) -> dict[str, Any]:
    """Return the objects that installed packages declare, by name; one that cannot be loaded is left out with a word.

    Args:
        group: "encoders", "similarities" or "presets".
    """
    found: dict[str, Any] = {}
    for point in metadata.entry_points(group=_PREFIX + group):
        try:
            found[point.name] = point.load()
        except Exception as error:  # of another package's code, which must not end this one
            _LOGGER.warning("'%s' of %s cannot be loaded: %s", point.name, _PREFIX + group, error)
    return found
