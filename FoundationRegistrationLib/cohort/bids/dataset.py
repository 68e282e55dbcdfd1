"""The pairs of a BIDS dataset, one for each subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ...errors import InputError
from ...files.bounded import object_in
from ..names import PAIRS_FOLDER
from ..table import COLUMNS, FOLLOW, VOLUMES, Table, TableRow, column_of, one_line, read_cells
from .names import BidsName, expression, file_name

_PARTICIPANTS, _SUBJECT = "participants.tsv", "participant_id"
_DERIVATIVES = "derivatives"
DESCRIPTION, GENERATOR = "dataset_description.json", "FoundationRegistration"
MOST_BYTES = 1_000_000  # of a JSON file
_FURTHER = tuple(column for column in (*VOLUMES, *FOLLOW) if column not in ("fixed", "moving", "follow_points"))
_NO_VALUE = "n/a"
_RENAMED = "participants_"  # before a title that the summary has too


@dataclass(frozen=True)
class BidsDataset:
    """A dataset, and which file of each subject is fixed and which is moving.

    Attributes:
        root: its folder, absolute.
        fixed: what the fixed file has.
        moving: what the moving file has.
        further: what other files of the subject have, by the column of a table that they belong to.
    """

    root: Path
    fixed: BidsName
    moving: BidsName
    further: Mapping[str, BidsName] = field(default_factory=dict)

    @classmethod
    def given(cls, root: Path, fixed: str, moving: str, further: Sequence[str] = ()) -> BidsDataset:
        """Return what the options say.

        Args:
            root: folder of the dataset.
            fixed: expression for the fixed file.
            moving: expression for the moving file.
            further: column and expression of other files, such as "fixed_labels=ses-01_desc-breast_dseg".

        Raises:
            InputError: an expression is none of BIDS, the first two are the same, or a column is not known or given
                twice.
        """
        named = [_option(text) for text in further]
        if twice := next(
            (column for column, count in Counter(column for column, _ in named).items() if count > 1), ""
        ):
            msg = f"--with gives {twice} twice; give each column once."
            raise InputError(msg)
        found = cls(root.absolute(), expression(fixed, "--fixed"), expression(moving, "--moving"), dict(named))
        if found.fixed.label == found.moving.label:
            msg = f"--fixed and --moving both ask for {found.fixed}; give two different files of a subject."
            raise InputError(msg)
        return found

    def table(self, taken: tuple[str, ...] = ()) -> Table:
        """Return a row for each subject that has both files; others are named in `left_out`.

        Several files of a subject that match one option are among the `problems`. The columns of participants.tsv are
        copied; one called as a column of the summary gets another title.

        Args:
            taken: titles that no column to be copied may have.

        Raises:
            InputError: there is no subject with both, no subject has a further file, or participants.tsv cannot be
                read.
        """
        subjects = sorted(path for path in self._listed(self.root) if path.name.startswith("sub-") and path.is_dir())
        if not subjects:
            msg = f"'{self.root}' has no folder of a subject, sub-...; give the root of a BIDS dataset with --bids."
            raise InputError(msg)
        titles, told, content = self._participants(taken)
        derivatives = self._derivatives() if self.further else []
        rows, left_out, problems = [], [], []
        for folder in subjects:
            own = self._named_volumes(folder)
            sides = {side: _accepted(own, wanted) for side, wanted in self._sides()}
            absent = [str(wanted) for side, wanted in self._sides() if not sides[side]]
            several = [side for side, found in sides.items() if len(found) > 1]
            if absent:
                left_out.append(f"{folder.name}: no {' and no '.join(absent)}")
            elif several:
                problems += [self._ambiguous(folder.name, side, sides[side]) for side in several]
            elif sides["fixed"] == sides["moving"]:
                name = sides["fixed"][0].relative_to(self.root).as_posix()
                problems.append(f"{folder.name}: {one_line(name)} matches both --fixed and --moving, so say more")
            else:
                derived = [each for place in derivatives for each in self._named_volumes(place / folder.name)]
                more = {
                    column: _accepted(own, wanted) or _accepted(derived, wanted)
                    for column, wanted in self.further.items()
                }
                several = [column for column, found in more.items() if len(found) > 1 and column not in FOLLOW]
                problems += [self._ambiguous(folder.name, f"with {column}", more[column]) for column in several]
                cells = told.get(folder.name, {})
                rows.append(_row(folder.name, sides | more, {title: cells.get(title, "") for title in titles}))
        if not rows and not problems:
            msg = (
                f"No subject in '{self.root}' has both {self.fixed} and {self.moving}; see what its files are called."
            )
            raise InputError(msg)
        self._check_found(rows)
        used = [path for row in rows for path in (*row.paths.values(), *chain(*row.followed.values()))]
        listed = [path.relative_to(self.root).as_posix() for path in used]
        digest = hashlib.sha256(content + "\n".join(listed).encode("utf-8", "surrogateescape")).hexdigest()
        return Table(self.root, digest, tuple(rows), titles, tuple(problems), tuple(left_out), PAIRS_FOLDER)

    def _sides(self) -> tuple[tuple[str, BidsName], ...]:
        return ("fixed", self.fixed), ("moving", self.moving)

    def _named_volumes(self, subject: Path) -> list[tuple[Path, BidsName]]:
        """Return the volumes of a subject, if it has a folder, that are named after the folders they are in."""
        if not subject.is_dir():
            return []
        named = [(path, name) for path in sorted(self._volumes(subject)) if (name := file_name(path.name))]
        return [(path, name) for path, name in named if _is_in_place(name, path.relative_to(subject.parent).parts)]

    def _derivatives(self) -> list[Path]:
        """Return the datasets under `derivatives`, without those that `write_derivative` has made."""
        folder = self.root / _DERIVATIVES
        return sorted(path for path in self._listed(folder) if not is_ours(path)) if folder.is_dir() else []

    def _check_found(self, rows: Sequence[TableRow]) -> None:
        for column, wanted in self.further.items():
            if rows and not any(column in {**row.paths, **row.followed} for row in rows):
                msg = (
                    f"No subject with a pair in '{self.root}' has {wanted}, which --with asks for as {column}; see "
                    "what its files are called."
                )
                raise InputError(msg)

    def _volumes(self, subject: Path) -> Iterator[Path]:
        """Yield the files in the folders of data types, of the subject or of its sessions."""
        for folder in self._listed(subject):
            if folder.is_dir():
                inner = self._listed(folder)
                yield from inner
                if folder.name.startswith("ses-"):
                    yield from (path for data_type in inner if data_type.is_dir() for path in self._listed(data_type))

    @staticmethod
    def _listed(folder: Path) -> list[Path]:
        try:
            return list(folder.iterdir())
        except OSError as error:
            msg = f"The folder '{folder}' cannot be read ({error.strerror}); give a BIDS dataset that you may read."
            raise InputError(msg) from error

    def _ambiguous(self, subject: str, side: str, found: list[Path]) -> str:
        names = ", ".join(one_line(path.relative_to(self.root).as_posix()) for path in found)
        return (
            f"{subject}: {len(found)} files match --{side} ({names}), so say more, such as run-1, or acq- for no acq"
        )

    def _participants(self, taken: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, dict[str, str]], bytes]:
        """Return the titles to copy, the cells of each subject, and the content of participants.tsv."""
        path = self.root / _PARTICIPANTS
        if not path.exists():
            return (), {}, b""
        content, rows = read_cells(path)
        titles = [one_line(title) for title in rows[0][1]] if rows else []
        if _SUBJECT not in titles or len({*map(column_of, titles)}) < len(titles):
            msg = f"'{path}' has no column {_SUBJECT}, or a column twice; correct it, or move it away."
            raise InputError(msg)
        refused = {*COLUMNS, *taken}
        named = {title: _RENAMED + title if column_of(title) in refused else title for title in titles}
        told = {}
        for line, cells in rows[1:]:
            row = dict(zip(titles, cells, strict=False))
            subject = f"sub-{row.pop(_SUBJECT).removeprefix('sub-')}"
            if subject in told:
                msg = f"'{path}' has {subject} a second time in line {line}; keep one row for each subject."
                raise InputError(msg)
            told[subject] = {named[title]: "" if cell == _NO_VALUE else cell for title, cell in row.items()}
        return tuple(named[title] for title in titles if title != _SUBJECT), told, content


def _is_in_place(name: BidsName, place: Sequence[str]) -> bool:
    """Whether a file is named after the subject whose folder it is in, and after the session if it names one."""
    session = place[1] if place[1].startswith("ses-") else ""
    named = {entity: f"{entity}-{name.entities[entity]}" for entity in ("sub", "ses") if entity in name.entities}
    return named.get("sub") == place[0] and (not session or named.get("ses", session) == session)


def _accepted(named: Sequence[tuple[Path, BidsName]], wanted: BidsName) -> list[Path]:
    return [path for path, name in named if wanted.accepts(name)]


def _row(subject: str, files: Mapping[str, Sequence[Path]], copied: Mapping[str, str]) -> TableRow:
    return TableRow(
        0,
        {column: found[0] for column, found in files.items() if found and column not in FOLLOW},
        subject,
        {column: tuple(found) for column, found in files.items() if found and column in FOLLOW},
        copied=copied,
    )


def is_ours(dataset: Path) -> bool:
    """Whether a dataset is one that `write_derivative` has made."""
    generators = object_in(dataset / DESCRIPTION, MOST_BYTES).get("GeneratedBy", [])
    return any(isinstance(each, dict) and each.get("Name") == GENERATOR for each in generators)


def _option(text: str) -> tuple[str, BidsName]:
    """Return column and expression of COLUMN=NAME."""
    column, _, name = text.partition("=")
    if column not in _FURTHER:
        msg = (
            f"--with is '{text[:60]}'; give one of {', '.join(_FURTHER)}, and what its files are called, such as "
            "fixed_mask=ses-01_desc-breast_mask."
        )
        raise InputError(msg)
    return column, expression(name, f"--with {column}")
