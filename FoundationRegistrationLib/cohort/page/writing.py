"""Writing the page of a cohort: `index.html`, its scripts beside it, and the pictures of every pair."""

from __future__ import annotations

import hashlib
import html
from importlib import resources
from pathlib import Path

from ...files.outputs import complete_or_absent
from ..names import FILES_FOLDER, INDEX
from .pictures import made, write_pair_pictures
from .rows import known_ratings, read_pairs
from .scripts import call, make_folder

DATA_FILE = "data.js"
ASSETS = ("cohort.css", "pairs.js", "ratings.js", "plots.js", "table.js", "slices.js", "opened.js", "cohort.js")
_MOST_DIGITS = 5  # significant ones of a figure


def write_page(folder: Path, *, draw: bool = True) -> Path:
    """Write the page of a cohort; what is there already and still true is kept, so call it after every pair.

    The page needs nothing but the folder: no internet, no server. Every file is written whole or not at all, and
    ``index.html`` last.

    Args:
        folder: results of the cohort, with its ``pairs.csv`` and a folder for each pair.
        draw: make the pictures of pairs that have none, or none of their result as it is now.

    Returns:
        Path of the page.

    Raises:
        InputError: the table of the cohort is missing or damaged.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    table = read_pairs(folder)
    pictures = write_pair_pictures if draw else made
    known = [
        pictures(folder / name) if _has_results(folder, name, state) else None
        for name, state in zip(table.words["folder"], table.words["state"], strict=True)
    ]
    title = folder.absolute().name.encode("utf-8", "replace").decode()
    data = {
        "title": title,
        "words": table.words,
        "figures": {name: [_short(value) for value in values] for name, values in table.figures.items()},
        "further": table.further,
        "made": ["" if pair is None else pair.content for pair in known],
        "drawn": [pair is not None and pair.drawn for pair in known],
        "ratings": known_ratings(folder),
    }
    contents = {name: _asset(name) for name in ASSETS} | {DATA_FILE: call("COHORT", data)}
    files = folder / FILES_FOLDER
    make_folder(files)
    for name, text in contents.items():
        _write(files / name, text)
    # With the hash in their addresses, browsers do not show old data with a new page.
    page = _asset(INDEX).replace("{{title}}", html.escape(title))
    for name, text in contents.items():
        address = f"{FILES_FOLDER}/{name}"
        page = page.replace(f'"{address}"', f'"{address}?{hashlib.sha256(text.encode()).hexdigest()[:12]}"')
    _write(folder / INDEX, page)
    return folder / INDEX


def _has_results(folder: Path, name: str, state: str) -> bool:
    return bool(name) and state in ("done", "failed") and (folder / name).is_dir()


def _short(value: float | None) -> float | None:
    """Return a figure with no more digits than are shown."""
    return None if value is None else float(f"{value:.{_MOST_DIGITS}g}")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Write a text unless the file holds it already."""
    data = text.encode("utf-8")
    try:
        if path.stat().st_size == len(data) and path.read_bytes() == data:
            return
    except OSError:
        pass
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(data)
