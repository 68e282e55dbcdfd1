"""What the documentation takes from the project itself: pictures, changelog, the table of settings, public names."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from pathlib import Path
from typing import Any

import griffe
import grimp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    """Draw the packages where a page asks for it; warn of public names without docstring or not on the API page."""
    if "<!-- packages -->" in html:
        html = html.replace("<!-- packages -->", _diagram())
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


def _layers() -> list[list[str]]:
    """Return the packages of the engine, layer by layer, as the import contract has them below `__main__`."""
    contracts = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    return [[name.strip().removeprefix(f"{_PACKAGE}.") for name in layer.split(":")] for layer in layers[1:]]


def _imports(layers: list[list[str]]) -> dict[tuple[str, str], int]:
    """Return how many imports lead from one package to another."""
    sys.path.insert(0, str(_ROOT))
    graph = grimp.build_graph(_PACKAGE)
    names = [name for layer in layers for name in layer]
    found: dict[tuple[str, str], int] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            ends = tuple(full.split(".")[1] if "." in full else "" for full in (module, imported))
            if ends[0] != ends[1] and set(ends) <= set(names):
                found[ends] = found.get(ends, 0) + 1
    return found


def _diagram() -> str:
    """Draw the packages as rows of boxes, one row a layer, with a line for each import; thicker for more."""
    layers = _layers()
    width, height, step = 150, 34, 62
    places = {
        name: (450 + (index - (len(layer) - 1) / 2) * (width + 60), 24 + row * step)
        for row, layer in enumerate(layers)
        for index, name in enumerate(layer)
    }
    lines = []
    for (above, below), count in sorted(_imports(layers).items()):
        (x, y), (to_x, to_y) = places[above], places[below]
        side = 1 if (layers.index(next(row for row in layers if above in row)) % 2) else -1
        bow = side * (width / 2 + 18 * (to_y - y) / step)
        x, to_x = x + side * width / 2, to_x + side * width / 2
        lines.append(
            f'<path d="M{x:.0f},{y:.0f} C{x + bow:.0f},{y:.0f} {to_x + bow:.0f},{to_y:.0f} {to_x:.0f},{to_y:.0f}" '
            f'fill="none" stroke="#5c7fa3" stroke-opacity="0.55" stroke-width="{min(0.6 + count / 6, 4):.1f}"/>'
        )
    boxes = [
        f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}" rx="6" '
        f'fill="#eef3f8" stroke="#2f4f6f"/><text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle" '
        f'font-family="sans-serif" font-size="15" fill="#1c2f42">{name}</text>'
        for name, (x, y) in places.items()
    ]
    total = 48 + (len(layers) - 1) * step
    return (
        f'<svg viewBox="0 0 900 {total}" role="img" aria-label="Packages of the engine and their imports">'
        f"{''.join(lines)}{''.join(boxes)}</svg>"
    )
