"""Data as scripts: a page that was opened from a folder may load these, but no other files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def call(name: str, content: Mapping[str, Any]) -> str:
    """Return a script that calls a function of the page, in ASCII, so that no guess of an encoding changes it.

    Args:
        name: of the function.
        content: its argument: text, finite numbers, lists and dictionaries.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"{name}({text.replace('<', chr(92) + 'u003c')});\n"
