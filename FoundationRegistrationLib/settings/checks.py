"""Checks of setting values against their declared types and limits."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any, Literal, get_args, get_origin

from ..errors import SettingsError
from ..files.bounded import shortened

# Longer than any path that an operating system accepts.
_LONGEST_TEXT = 4096
_LONGEST_NAME = 200


def setting_choices(annotation: Any) -> tuple[str, ...] | None:
    """Return the allowed values of a `Literal` annotation, None for any other annotation."""
    return get_args(annotation) if get_origin(annotation) is Literal else None


def checked(field: dataclasses.Field[Any], annotation: Any, value: Any) -> Any:
    """Return the value in its declared type, or raise what is wrong with it."""
    choices = setting_choices(annotation)
    if choices is not None:
        example, pattern = field.metadata["also"] or ("", "(?!)")
        if not isinstance(value, str) or not (value in choices or re.fullmatch(pattern, value)):
            further = f", or one such as {example}" if example else ""
            msg = f"{field.name} is {shortened(value)}; choose one of: {', '.join(choices)}{further}."
            raise SettingsError(msg)
        return value
    if annotation is str:
        return _checked_text(field.name, value)
    return _checked_number(field, annotation, value)


def _checked_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(_wrong_type_message(name, "text", value))
    longest = _LONGEST_TEXT if name == "weights" else _LONGEST_NAME
    if len(value) > longest or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value):
        msg = f"{name} is {shortened(value)}; give at most {longest} printable characters."
        raise SettingsError(msg)
    return value


def _checked_number(field: dataclasses.Field[Any], annotation: Any, value: Any) -> Any:
    kind = "a whole number" if annotation is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingsError(_wrong_type_message(field.name, kind, value))
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if not low <= value <= high:  # also refuses NaN
        msg = f"{field.name} is {shortened(value)}; it must be between {low:g} and {high:g}."
        raise SettingsError(msg)
    if annotation(value) != value:
        raise SettingsError(_wrong_type_message(field.name, kind, value))
    if field.metadata["odd"] and value % 2 == 0:
        msg = f"{field.name} is {value}; it must be odd."
        raise SettingsError(msg)
    return annotation(value)


def _wrong_type_message(name: str, kind: str, value: Any) -> str:
    return f"{name} is {shortened(value)}; give {kind}{' without quotes' if isinstance(value, str) else ''}."
