"""Data as scripts: a page that was opened from a folder may load these, but no other files; and folders for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import OutputError


def call(name: str, content: Mapping[str, Any]) -> str:
    """Return a script that calls a function of the page, in ASCII, so that no guess of an encoding changes it.

    Args:
        name: of the function.
        content: its argument: text, finite numbers, lists and dictionaries.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"{name}({text.replace('<', chr(92) + 'u003c')});\n"


def make_folder(path: Path) -> None:
    """Create a folder if it is not there.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        msg = f"'{path}' cannot be created ({error.strerror}); choose a folder that you may write to."
        raise OutputError(msg) from error
