"""The folder `page` of a pair: its thumbnail, its slices and what is said of it, made once for each registration."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ...errors import FoundationRegistrationError, InputError
from ...files.bounded import object_in, open_regular
from ...files.outputs import complete_or_absent
from ...io.volumes import read_volume
from ...settings import MOST_SETTINGS_BYTES
from ..figures import report_of
from ..names import RECORD, REPORT
from .details import details_of, part_of
from .scripts import call, make_folder
from .slices import slices_of
from .sprites import draw_sheets, draw_thumbnail

PAGE_FOLDER = "page"  # in the folder of a pair
DETAILS_FILE = "pair.js"
THUMBNAIL = "thumbnail.webp"
_VERSION = 1  # to be raised when the same registration gives other pictures
_MOST_LINE = 400
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What is known of the pictures of a pair.

    Attributes:
        content: hash of the records that they were made from.
        found: whether the fixed and the moving volume were there.
        drawn: whether there is a thumbnail.
    """

    content: str
    found: tuple[bool, bool]
    drawn: bool


def write_pair_pictures(folder: Path) -> Made:
    """Write what the page shows of a pair into ``folder/page``, unless it is there already.

    It is made anew when the records of the pair have changed, or when a volume that was missing has come back.
    A pair without a result, or whose fixed volume is not there any more, gets no pictures, only its text.

    Args:
        folder: of the pair, with its pair.json and, if it was registered, report.json and warped.nii.gz.

    Returns:
        What was made.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    before = made(folder)
    if before is not None and all(before.found) and _older_than_pictures(folder):
        return before
    pair, report = object_in(folder / RECORD, MOST_SETTINGS_BYTES), report_of(folder)
    paths = _volumes(pair, report)
    found = (_there(paths["fixed"]), _there(paths["moving"]))
    content = _hash_of(folder)
    # Where the volumes have gone since, as on another computer, the pictures are the only ones there will be.
    if before is not None and before.content == content and (all(before.found) or before.found == found):
        return before
    files, shown, missing = _draw(folder, paths, report) if report else ({}, None, "")
    now = Made(content, found if report else (True, True), bool(files))
    target = folder / PAGE_FOLDER
    make_folder(target)
    for name, data in files.items():
        with complete_or_absent(target / name) as unfinished:
            unfinished.write_bytes(data)
    details = {**details_of(folder, pair, report), "slices": shown, "missing": missing}
    first = json.dumps({"content": now.content, "found": now.found, "drawn": now.drawn})
    with complete_or_absent(target / DETAILS_FILE) as unfinished:  # last: it says that all others are there
        unfinished.write_text(f"// {first}\n{call('COHORT_PAIR', details)}", encoding="ascii")
    for path in target.glob("*.webp"):  # of an earlier result
        if path.name not in files:
            path.unlink(missing_ok=True)
    return now


def made(folder: Path) -> Made | None:
    """Return what is known of the pictures of a pair, None if there are none."""
    try:
        with open_regular(folder / PAGE_FOLDER / DETAILS_FILE) as file:
            known = json.loads(file.readline(_MOST_LINE).removeprefix(b"// "))
        fixed, moving = known["found"]
        return Made(str(known["content"]), (bool(fixed), bool(moving)), bool(known["drawn"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _there(path: Path | None) -> bool:
    try:
        return path is not None and path.exists()
    except OSError:  # a folder that may not be entered
        return False


def _older_than_pictures(folder: Path) -> bool:
    """Whether the records were clearly written before the pictures; what is copied may have any time."""
    times = []
    for name in (RECORD, REPORT, f"{PAGE_FOLDER}/{DETAILS_FILE}"):
        try:
            times.append((folder / name).stat().st_mtime_ns)
        except OSError:
            times.append(0)
    *records, pictures = times
    return max(records) < pictures


def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256(str(_VERSION).encode())
    for name in (RECORD, REPORT):
        try:
            content = (folder / name).read_bytes()
        except OSError:
            content = b""
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()[:12]


def _volumes(pair: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Path | None]:
    """Return the paths of the fixed and the moving volume, None where neither record names one."""
    paths: dict[str, Path | None] = {}
    for side in ("fixed", "moving"):
        path = pair.get(side) or part_of(part_of(report, "inputs"), side).get("path")
        paths[side] = Path(path) if isinstance(path, str) else None
    return paths


def _draw(
    folder: Path, paths: Mapping[str, Path | None], report: Mapping[str, Any]
) -> tuple[dict[str, bytes], dict[str, Any] | None, str]:
    """Return files by name, what the page must know of them, and what is missing and why."""
    try:
        fixed = _read(paths["fixed"], "fixed", report)
        registered = read_volume(folder / "warped.nii.gz", "registered", [])
    except FoundationRegistrationError as error:
        return {}, None, f"There are no slices: {error}"
    missing = ""
    try:
        before = _read(paths["moving"], "moving", report)
    except FoundationRegistrationError as error:
        before, missing = None, f"The moving volume cannot be shown as it was before: {error}"
    try:
        slices = slices_of(fixed, registered, before)
        sheets = draw_sheets(slices)
        thumbnail = draw_thumbnail(slices)
    except (FoundationRegistrationError, RuntimeError, ValueError, MemoryError) as error:
        _LOGGER.warning("The slices of '%s' cannot be drawn: %s", folder, error)
        return {}, None, f"There are no slices: they could not be drawn ({error})."
    files = {f"{name}.webp": data for name, data in sheets.files.items()}
    shown = {
        "layers": list(sheets.files),
        "width": sheets.width,
        "height": sheets.height,
        "columns": sheets.columns,
        "positions": [round(position, 1) for position in slices.positions_mm],
        "middle": slices.middle,
    }
    return {**files, THUMBNAIL: thumbnail}, shown, missing


def _read(path: Path | None, side: str, report: Mapping[str, Any]) -> sitk.Image:
    """Read a volume as the registration did.

    Raises:
        InputError: it is not named, or cannot be read any more.
    """
    if path is None:
        msg = f"The records of the pair do not name the {side} volume; register it again."
        raise InputError(msg)
    series = part_of(part_of(report, "inputs"), side).get("series")
    return read_volume(path, side, [], None if series is None else str(series))
