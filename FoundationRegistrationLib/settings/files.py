"""Settings from a JSON file or from the record of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files.bounded import plain_json, read_bounded

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
