"""Selection of a series: the only one in a folder, the one that is named, or the one a file belongs to."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from ...errors import InputError
from .headers import Slice
from .reading import damaged, is_dicom, is_directory, read_slices, storage_class

_MOST_FILES = 20_000
_MOST_LISTED = 8


def series_below(folder: Path, wanted: str | None = None) -> list[Slice]:
    """Return the slices of one series in a folder and its subfolders; non-images are ignored.

    Args:
        folder: where to look.
        wanted: its number, its UID or the beginning of it, its description or a part of it; upper and lower case are
            the same. If None, the folder must hold only one series.

    Raises:
        InputError: no such series, several, or a damaged file.
    """
    paths = _files_below(folder)
    series = list(_series(paths).values())
    if not series:
        msg = "holds no DICOM images; give a folder with the slices of one series, or one of its files."
        raise InputError(msg)
    found = series if wanted is None else _matching(series, wanted)
    if not found:
        msg = f"holds no series '{wanted}', but {len(series)}: {_listing(folder, series)}."
        raise InputError(msg)
    if len(found) > 1:
        fits = "" if wanted is None else f" that '{wanted}' fits"
        how = "choose one by its number, description or UID, or give one of its files"
        msg = f"holds {len(found)} series{fits}; {how}: {_listing(folder, found)}."
        raise InputError(msg)
    slices = found[0]
    _check_strays(paths, slices)
    return slices


def series_of(path: Path) -> list[Slice]:
    """Return the slices of a file's series from its folder, or all frames of a multi-frame file.

    Raises:
        InputError: it is not an image, or a file beside it is damaged.
    """
    own = read_slices(path)
    if not own and is_directory(path):
        msg = "is the table of contents of a DICOM disc, not a volume; give the folder it is in."
        raise InputError(msg)
    if not own:
        msg = (
            f"is not a volume but a DICOM '{storage_class(path)}'; give image slices (segmentations as NIfTI or "
            "NRRD)."
        )
        raise InputError(msg)
    if own[0].frames > 1:
        return own
    try:
        beside = list(path.parent.iterdir())
    except OSError as error:
        _refuse(error)
    paths = sorted({path, *filter(_counts, beside)})
    slices = _series(paths)[_key(own[0])]
    _check_strays(paths, slices)
    return slices


def every_series(folder: Path, damage: list[str]) -> list[list[Slice]]:
    """Return the slices of each image series in a folder and its subfolders; none if there is none.

    Args:
        folder: where to look.
        damage: the damaged files are left out, and what is wrong with them is appended.

    Raises:
        InputError: too many files, or a folder that cannot be opened.
    """
    return list(_series(_files_below(folder), damage).values())


def _files_below(folder: Path) -> list[Path]:
    paths = list(itertools.islice(_walk(folder), _MOST_FILES + 1))
    if len(paths) > _MOST_FILES:
        msg = f"holds more than {_MOST_FILES} files; give the folder of one series."
        raise InputError(msg)
    return paths


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for path in (Path(parent, name) for name in sorted(names)) if _counts(path))


def _refuse(error: OSError) -> NoReturn:
    msg = f"has a folder '{error.filename}' that cannot be opened; check its permissions."
    raise InputError(msg) from error


def _counts(path: Path) -> bool:
    """Whether it is a regular file and not hidden (macOS puts hidden files beside others)."""
    return not path.name.startswith(".") and path.is_file()


def _key(item: Slice) -> tuple[str, str]:
    return item.text("StudyInstanceUID"), item.text("SeriesInstanceUID")


def _series(paths: list[Path], damage: list[str] | None = None) -> dict[tuple[str, str], list[Slice]]:
    """Return the slices of each series; damaged files are refused, or listed in `damage`."""
    found: dict[tuple[str, str], list[Slice]] = {}
    for path in paths:
        try:
            slices = read_slices(path) if is_dicom(path) else []
        except InputError as error:
            if damage is None:
                raise
            damage.append(str(error))
            continue
        for item in slices:
            found.setdefault(_key(item), []).append(item)
    return found


def _matching(series: list[list[Slice]], wanted: str) -> list[list[Slice]]:
    """Return the series that a name fits best: a number before a UID before a description."""
    text = wanted.strip().casefold()
    ways: tuple[Callable[[Slice], bool], ...] = (
        lambda item: text.removeprefix("-").isdecimal() and item.numbers("SeriesNumber", 1) == int(text),
        lambda item: item.text("SeriesInstanceUID") == text,
        lambda item: "." in text and item.text("SeriesInstanceUID").startswith(text),
        lambda item: item.text("SeriesDescription").casefold() == text,
        lambda item: bool(text) and text in item.text("SeriesDescription").casefold(),
    )
    found = ([slices for slices in series if fits(slices[0])] for fits in ways)
    return next(filter(None, found), [])


def _listing(folder: Path, series: list[list[Slice]]) -> str:
    lines = []
    for slices in series[:_MOST_LISTED]:
        first = slices[0]
        columns, rows = first.size
        number = first.text("SeriesNumber")[:12]
        what = f"{number}{' ' * bool(number)}{first.text('Modality')[:9]} '{first.text('SeriesDescription')[:40]}'"
        count = f"{len(slices)} slice{'s' * (len(slices) > 1)} of {columns} x {rows}"
        lines.append(f"{what}, {count}: {first.path.relative_to(folder).as_posix()}")
    more = f"; and {len(series) - _MOST_LISTED} more" if len(series) > _MOST_LISTED else ""
    return f"{'; '.join(lines)}{more}"


def _check_strays(paths: list[Path], slices: list[Slice]) -> None:
    """Refuse files that are named like the slices but are not DICOM: slices damaged in copying.

    Raises:
        InputError: there is one; its name is given.
    """
    patterns = {(item.path.parent, _pattern(item.path)) for item in slices}
    for path in paths:
        if (path.parent, _pattern(path)) in patterns and not is_dicom(path):
            raise damaged(path)


def _pattern(path: Path) -> str:
    return re.sub(r"\d+", "#", path.name)
