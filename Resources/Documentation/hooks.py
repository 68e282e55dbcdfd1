"""What the documentation takes from the project itself: pictures, changelog, the table of settings, public names."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = "FoundationRegistrationLib"
_LOGGER = logging.getLogger(f"mkdocs.hooks.{__name__}")  # a warning ends a strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures as `screenshots/NAME` and the changelog as a page."""
    for picture in sorted((_ROOT / "Resources" / "Screenshots").glob("*.png")):
        files.append(File.generated(config, f"screenshots/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(_ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Find the pictures beside the folder of pages, and put tables of the code where a page asks for them."""
    markdown = markdown.replace("(../../Screenshots/", "(screenshots/")
    if "<!-- settings -->" in markdown:
        markdown = markdown.replace("<!-- presets -->", _presets_table())
        markdown = markdown.replace("<!-- settings -->", _settings_table())
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Warn of every public name that has no docstring or does not stand on the API page."""
    if page.file.src_uri == "api.md":
        package = griffe.load(_PACKAGE, search_paths=[str(_ROOT)])
        for name in package.exports or ():
            if not package[str(name)].has_docstring:
                _LOGGER.warning("The public name '%s' has no docstring.", name)
            if not re.search(rf'id="{_PACKAGE}\.{name}"', html):
                _LOGGER.warning("The public name '%s' is missing on the API page.", name)
    return html


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn of scripts, styles, fonts and pictures of other servers: the site must work offline."""
    for address in re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(https?://[^"]*)"', output):
        _LOGGER.warning("The page '%s' loads '%s' from another server.", page.file.src_uri, address)
    return output


def _engine() -> Any:
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    import FoundationRegistrationLib

    return FoundationRegistrationLib


def _presets_table() -> str:
    lines = ["| preset | for | what it sets |", "|---|---|---|"]
    for name, preset in _engine().PRESETS.items():
        values = "<br>".join(f"`{setting}` = {value}" for setting, value in preset.values.items())
        lines.append(f"| `{name}` | {preset.purpose} | {values or 'the defaults'} |")
    return "\n".join(lines)


def _settings_table() -> str:
    lines = ["| setting | default | limits | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(_engine().Settings):
        low, high = field.metadata["minimum"], field.metadata["maximum"]
        limits = "" if low is None else f"{low:g} to {high:g}"
        default = "empty" if field.default == "" else f"`{field.default}`"
        lines.append(f"| `{field.name}` | {default} | {limits} | {field.metadata['help']} |")
    return "\n".join(lines)
