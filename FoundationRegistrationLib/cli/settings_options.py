"""The settings of a registration as options of a command."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from ..settings import PRESETS, Settings, setting_choices


def add_settings(parser: argparse.ArgumentParser, *, with_landmarks: bool) -> None:
    """Declare the options for a preset, a settings file and each setting, and how progress is shown.

    Args:
        parser: of the command.
        with_landmarks: whether the initial alignment may be from landmarks.
    """
    parser.add_argument("--settings", type=Path, help="JSON file of settings, or a report.json to repeat")
    parser.add_argument("--progress", choices=("bar", "json", "none"), default="bar")
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        metavar="PRESET",
        help="; ".join(f"{name}: {preset.purpose}" for name, preset in PRESETS.items()),
    )
    hints = get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        if field.name == "preset":
            continue
        choices = setting_choices(hints[field.name])
        if field.name == "initialization" and choices is not None and with_landmarks:
            choices = (*choices, "landmarks")
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=str if choices else hints[field.name],
            choices=None if field.metadata["also"] else choices,
            help=f"{field.metadata['help']} (default {field.default})",
        )


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that are options of a command line."""
    values = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}
