"""Messages of the engine in the words of the panel, which has settings where the command line has options."""

from __future__ import annotations

import re
from typing import get_type_hints

from FoundationRegistrationLib.settings import Settings

from ..parameters import setting_fields, setting_words
from .facts import choice_titles, setting_title

_OPTION = re.compile(r"--([a-z][a-z-]+)( \w+)?")
# What the panel calls differently, and what it has that is no setting.
_TITLES = {"initialization": "Start", "initial_transform": "Start", "stages": "Transform", "region": "Region"}
_CLAUSES = "; "


def in_panel_words(message: str) -> str:
    """Return a message with the name of its widget in place of each option of the command line.

    "use --device cpu" becomes "use 'Device: cpu'", "a larger --slice-gap" "a larger 'Slice gap'". Advice after a
    semicolon about an option that the panel does not have is left out.
    """
    first, *others = message.split(_CLAUSES)
    kept = [clause for clause in others if all(_is_here(option) for option in _OPTION.finditer(clause))]
    ended = "." if message.endswith(".") and not [first, *kept][-1].endswith(".") else ""
    return _OPTION.sub(_named, _CLAUSES.join([first, *kept])) + ended


def _is_here(option: re.Match[str]) -> bool:
    name = option.group(1).replace("-", "_")
    return name in _TITLES or name in setting_fields()


def _named(option: re.Match[str]) -> str:
    name, next_word = option.group(1).replace("-", "_"), option.group(2) or ""
    title = _TITLES.get(name, setting_title(name))
    if name in setting_fields() and next_word.strip() in (setting_words(name, get_type_hints(Settings)[name]) or ()):
        value = next_word.strip()
        return f"'{title}: {choice_titles(name).get(value, value)}'"
    return f"'{title}'{next_word}"
