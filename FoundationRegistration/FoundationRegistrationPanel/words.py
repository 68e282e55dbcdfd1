"""Messages of the engine in the words of the panel, which has settings where the command line has options."""

from __future__ import annotations

import re

from .facts import setting_title
from .parameters import setting_fields

_OPTION = re.compile(r"--([a-z][a-z-]+)")
# Options that are no setting, by what the panel calls them.
_ROWS = {
    "initialization": "Start",
    "initial-transform": "Start",
    "initial": "Start",
    "region": "Region",
    "extent": "Outputs",
    "stages": "Transform",
}


def in_panel_words(message: str) -> str:
    """Return a message with each command-line option replaced by the name of its widget."""
    return _OPTION.sub(_name, message)


def _name(option: re.Match[str]) -> str:
    word = option.group(1)
    setting = word.replace("-", "_")
    if word in _ROWS:
        return _ROWS[word]
    return f"'{setting_title(setting)}'" if setting in setting_fields() else word.replace("-", " ")
