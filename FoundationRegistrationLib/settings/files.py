"""Settings from a JSON file or from the record of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files.bounded import plain_json, read_bounded
from .parameters import Settings

# A report with thousands of lesions is smaller than this.
MOST_SETTINGS_BYTES = 4_000_000


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the values of a JSON settings file, or of the `settings` part of a run record.

    Raises:
        SettingsError: the file cannot be read or is not a JSON object.
    """
    try:
        values = plain_json(read_bounded(path, MOST_SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"Cannot read settings from '{path}': {reason or error}. Give a JSON file of names and values."
        raise SettingsError(msg) from error
    own_stages = isinstance(values, dict) and values.get("own_stages", False)
    if isinstance(values, dict):
        values = values.get("settings", values)
    if own_stages:
        msg = f"'{path}' is of a run with custom stages, which settings cannot express; repeat it from Python."
        raise SettingsError(msg)
    if not isinstance(values, dict):
        msg = f"'{path}' is not a JSON object of settings."
        raise SettingsError(msg)
    return values


def combined(from_file: Mapping[str, Any], given: Mapping[str, Any], preset: str = "default") -> Settings:
    """Return the settings of a preset, a settings file and single values; later ones override.

    Args:
        from_file: what a settings file says.
        given: single settings, and the preset if it is given.
        preset: used if none is given.

    Raises:
        SettingsError: the file is for another preset than the given one, or a value cannot be used.
    """
    if "preset" in from_file and given.get("preset", from_file["preset"]) != from_file["preset"]:
        msg = (
            f"The settings file uses another preset ({from_file['preset']}) than {given['preset']}; give only one "
            "of them."
        )
        raise SettingsError(msg)
    values = {**from_file, **given}
    if given.get("initialization") == "landmarks":  # a start that is computed from them, and then given
        values["initialization"] = "none"
    return Settings.from_preset(values.pop("preset", preset), **values)
