"""The pairs of a table with folders and settings, all checked before the first runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from ..encoders import encoder_families, encoder_info, encoders
from ..encoders.fingerprint import weights_checksum
from ..errors import FoundationRegistrationError, InputError, WeightsError
from ..files.digest import content_sha256s, is_same_file
from ..settings import Settings, combined
from ..weights import file_digest, weights_entry
from ..weights.store import missing_message
from .names import FILES_FOLDER, REPORT, SUMMARY_FILES, folded, folder_names
from .table import FILES, SERIES, Table, TableRow, one_line

FOLLOWED = "followed"  # folder of what was carried along
EVALUATING = ("fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks")
_RESULTS = ("transform.h5", "inverse.h5", "initial_transform.h5", "warped.nii.gz", REPORT, "overview.png")
_PAIRED = ("labels", "landmarks", "structures", "points")
_ENDINGS = {"follow_image": ".nii.gz", "follow_labels": ".nii.gz", "follow_points": ".mrk.json"}
_SEGMENTATION = ".seg.nrrd"
_KNOWN_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mrk.json", ".fcsv", ".csv", ".json")
_MOST_NAMED = 20
_HINTS = get_type_hints(Settings)


@dataclass(frozen=True)
class Pair:
    """One pair to register.

    Attributes:
        name: unique, also ignoring case.
        folder: with its results, relative to the output, with forward slashes.
        line: of the table.
        paths: of its files, by column.
        followed: column, file and the name of what becomes of it, for each file to carry along.
        settings: all settings by name; `initialization` may be "landmarks".
        series: which series of a DICOM folder, by column.
        copied: cells that are copied to the summary, by title.
        weights: what identifies the weights of its encoders.
    """

    name: str
    folder: str
    line: int
    paths: Mapping[str, Path]
    followed: tuple[tuple[str, Path, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    copied: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[str, ...] = ()

    def commands(self, folder: Path) -> list[list[str]]:
        """Return the command lines that make the pair's folder, in order."""
        given = {
            **{name: path for name, path in self.paths.items() if name not in ("fixed", "moving")},
            **self.series,
        }
        options = [f"--{name.replace('_', '-')}={value}" for name, value in {**given, **self.settings}.items()]
        volumes = [str(self.paths[side]) for side in ("fixed", "moving")]
        register = ["register", *volumes, f"--output={folder}", "--progress=none", *options]
        return [
            register,
            *(
                ["apply", str(folder), f"--{column[7:]}={path}", f"--output={folder / FOLLOWED / name}"]
                for column, path, name in self.followed
            ),
        ]

    def evaluation(self, folder: Path, output: Path) -> list[list[str]]:
        """Return the command lines that measure the finished pair in a folder again; none if nothing can be measured.

        Args:
            folder: of the pair.
            output: JSON file to write.
        """
        files = [f"--{name.replace('_', '-')}={path}" for name, path in self.paths.items() if name in EVALUATING]
        return [["evaluate", str(folder), f"--output={output}", *files]] if files else []

    def evaluating(self) -> dict[str, list[str]]:
        """Return the hashes of the files that only evaluate its result, by column.

        Raises:
            InputError: a file cannot be read.
        """
        return {name: content_sha256s(path) for name, path in self.paths.items() if name in self._only_evaluating}

    def deciding(self) -> dict[str, Any]:
        """Return all else that determines its result, as plain values.

        Raises:
            InputError: a file cannot be read.
        """
        return {
            "inputs": {
                name: content_sha256s(path) for name, path in self.paths.items() if name not in self._only_evaluating
            },
            "followed": [[column, content_sha256s(path), name] for column, path, name in self.followed],
            "settings": dict(self.settings),
            "series": dict(self.series),
            "weights": list(self.weights),
        }

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the files in its folder without which it is not done."""
        return (*_RESULTS, *(f"{FOLLOWED}/{name}" for _, _, name in self.followed))

    @property
    def _only_evaluating(self) -> tuple[str, ...]:
        starts_there = self.settings.get("initialization") == "landmarks"
        return tuple(name for name in EVALUATING if not (starts_there and name.endswith("landmarks")))


@dataclass(frozen=True)
class Plan:
    """The pairs of a table, in its order.

    Attributes:
        table: what was read.
        pairs: the pairs.
        settings: those of all pairs that have none of their own.
    """

    table: Table
    pairs: tuple[Pair, ...]
    settings: Settings


def plan_cohort(table: Table, given: Mapping[str, Any], from_file: Mapping[str, Any]) -> Plan:
    """Return the pairs of a table, after checking every row.

    Args:
        table: see `read_table` and `BidsDataset.table`.
        given: settings for all rows, which the cells of a row override.
        from_file: what a settings file says, which both override.

    Raises:
        InputError: some rows cannot be used, which are all listed.
        SettingsError: the settings for all rows cannot be used.
        WeightsError: nor their weights.
    """
    common = combined(from_file, given)
    _fingerprints(common)
    problems = [*table.problems, *_repeated_names(table.rows)]
    names = folder_names(
        [row.name or row.paths["moving"].name.split(".")[0] for row in table.rows],
        reserved=(*SUMMARY_FILES, FILES_FOLDER),
    )
    exists = cache(os.path.exists)  # unlike Path.exists, does not raise for a name that is too long
    pairs: list[Pair] = []
    known: dict[tuple[tuple[str, Any], ...], Settings] = {}
    for row, name in zip(table.rows, names, strict=True):
        problems += _problems_of_files(row, exists)
        try:
            own = {column: _value(column, text) for column, text in row.texts.items() if column not in SERIES}
            values = {**given, **own}
            chosen = tuple(own.items())
            known[chosen] = known.get(chosen) or combined(from_file, values)
            pairs.append(_pair(row, name, table.folder, known[chosen], values.get("initialization") == "landmarks"))
        except FoundationRegistrationError as error:
            problems.append(f"{row.where}: {str(error).rstrip('.')}")
    if problems:
        raise InputError(_listed(problems, table))
    return Plan(table, tuple(pairs), common)


def _pair(row: TableRow, name: str, parent: str, settings: Settings, by_landmarks: bool) -> Pair:
    if by_landmarks and "fixed_landmarks" not in row.paths:
        msg = "alignment by landmarks needs fixed_landmarks and moving_landmarks"
        raise InputError(msg)
    return Pair(
        name,
        f"{parent}/{name}" if parent else name,
        row.line,
        row.paths,
        tuple(_followed(row)),
        {**settings.to_dict(), **({"initialization": "landmarks"} if by_landmarks else {})},
        {column: row.texts[column] for column in SERIES if column in row.texts},
        row.copied,
        _fingerprints(settings),
    )


def _value(name: str, text: str) -> Any:
    """Return a setting in its type; text that is no number is left for the check of the settings to refuse."""
    if _HINTS[name] not in (int, float):
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _followed(row: TableRow) -> Iterator[tuple[str, Path, str]]:
    """Yield column, file and the name of its result for each file to carry along; no two names are equal."""
    files = [(column, path) for column, paths in row.followed.items() for path in paths]
    stems = []
    for _, path in files:
        lower = path.name.lower()
        known = next((ending for ending in (_SEGMENTATION, *_KNOWN_ENDINGS) if lower.endswith(ending)), "")
        stems.append(path.name[: len(path.name) - len(known)] or path.name)
    for (column, path), stem in zip(files, folder_names(stems), strict=True):
        is_segmentation = column == "follow_labels" and path.name.lower().endswith(_SEGMENTATION)
        yield column, path, stem + (_SEGMENTATION if is_segmentation else _ENDINGS[column])


def _fingerprints(settings: Settings) -> tuple[str, ...]:
    """Return what identifies the weights of each encoder in use.

    Raises:
        SettingsError: there is no such encoder.
        WeightsError: its weights cannot be read.
    """
    return tuple(_fingerprint(name, settings.weights) for name in settings.encoders)


@cache
def _fingerprint(name: str, weights: str) -> str:
    if name not in encoders() and name.startswith(tuple(encoder_families())):
        # Their networks are not looked up here, which takes torch and seconds.
        return file_digest(Path(weights), "sha256") if os.path.isfile(weights) else ""  # noqa: PTH113 - takes any name
    info = encoder_info(name)
    found = weights_checksum(info, Settings(encoder=name, weights=weights))
    if found is None and info.weights:
        raise WeightsError(missing_message(weights_entry(info.weights[0])))
    return found or ""


def _repeated_names(rows: Sequence[TableRow]) -> Iterator[str]:
    lines = defaultdict(list)
    for row in rows:
        if row.name and row.line:  # subjects may differ in case alone
            lines[folded(row.name)].append(row)
    for found in lines.values():
        if len(found) > 1:
            numbers = ", ".join(str(row.line) for row in found)
            yield f"lines {numbers}: the same name '{one_line(found[0].name)}'"


def _problems_of_files(row: TableRow, exists: Callable[[Path], bool]) -> Iterator[str]:
    everything = [*row.paths.items(), *((column, path) for column, paths in row.followed.items() for path in paths)]
    for column, path in everything:
        if not exists(path):
            yield f"{row.where}, {column}: no file {one_line(str(path))}"
    chosen = [row.texts.get(column) for column in SERIES]
    if chosen[0] == chosen[1] and is_same_file(row.paths["fixed"], row.paths["moving"]):
        yield f"{row.where}: fixed and moving are the same file {one_line(str(row.paths['fixed']))}"
    for kind in _PAIRED:
        given = [side for side in ("fixed", "moving") if f"{side}_{kind}" in row.paths]
        if len(given) == 1:
            yield f"{row.where}: {given[0]}_{kind} without that of the other volume"


def _listed(problems: Sequence[str], table: Table) -> str:
    named = "; ".join(problems[:_MOST_NAMED])
    more = f"; and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    kind = "dataset" if table.path.is_dir() else "table"
    return f"The {kind} '{table.path}' has {count} ({named}{more}); correct it. Nothing was registered."


def share(pairs: Sequence[Pair], number: int, count: int) -> tuple[Pair, ...]:
    """Return one of several parts of the pairs; each pair is in one part.

    Args:
        pairs: all of them.
        number: of the part, from 1.
        count: of parts.
    """
    return tuple(pairs[number - 1 :: count])


def columns_used(plan: Plan) -> dict[str, int]:
    """Return how many pairs have each optional file or setting of their own, for a person to check."""
    used: dict[str, int] = {}
    for row in plan.table.rows:
        for column in (*row.paths, *row.followed, *row.texts):
            used[column] = used.get(column, 0) + (column not in FILES[:2])
    return {column: count for column, count in used.items() if count}
