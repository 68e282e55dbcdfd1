"""Stand-in for `slicer.i18n`: no language but English."""

from __future__ import annotations


def tr(text: str) -> str:
    """Return the text in the user's language."""
    return text


def translate(context: str, text: str) -> str:
    """Return the text of another context in the user's language."""
    return text
