"""The pairs of a BIDS dataset, one for each subject."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..names import PAIRS_FOLDER
from ..table import COLUMNS, Table, TableRow, column_of, one_line, read_cells
from .names import BidsName, expression, file_name

_PARTICIPANTS, _SUBJECT = "participants.tsv", "participant_id"
_NO_VALUE = "n/a"
_RENAMED = "participants_"  # before a title that the summary has too


@dataclass(frozen=True)
class BidsDataset:
    """A dataset, and which file of each subject is fixed and which is moving.

    Attributes:
        root: its folder, absolute.
        fixed: what the fixed file has.
        moving: what the moving file has.
    """

    root: Path
    fixed: BidsName
    moving: BidsName

    @classmethod
    def given(cls, root: Path, fixed: str, moving: str) -> BidsDataset:
        """Return what three options say.

        Raises:
            InputError: an expression is none of BIDS, or both are the same.
        """
        found = cls(root.absolute(), expression(fixed, "--fixed"), expression(moving, "--moving"))
        if found.fixed.label == found.moving.label:
            msg = f"--fixed and --moving both ask for {found.fixed}; give two different files of a subject."
            raise InputError(msg)
        return found

    def table(self, taken: tuple[str, ...] = ()) -> Table:
        """Return a row for each subject that has both files; others are named in `left_out`.

        The columns of participants.tsv are copied; one called as a column of the summary gets another title.

        Args:
            taken: titles that no column to be copied may have.

        Raises:
            InputError: there is no subject with both, participants.tsv cannot be read, or several files of a subject
                match a side, which are all listed.
        """
        subjects = sorted(path for path in self._listed(self.root) if path.name.startswith("sub-") and path.is_dir())
        if not subjects:
            msg = f"'{self.root}' has no folder of a subject, sub-...; give the root of a BIDS dataset with --bids."
            raise InputError(msg)
        titles, told, content = self._participants(taken)
        rows, left_out, problems = [], [], []
        for folder in subjects:
            sides = {side: self._matching(folder, wanted) for side, wanted in self._sides()}
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
                paths = {side: found[0] for side, found in sides.items()}
                cells = told.get(folder.name, {})
                copied = {title: cells.get(title, "") for title in titles}
                rows.append(TableRow(0, paths, folder.name, copied=copied))
        if not rows and not problems:
            msg = (
                f"No subject in '{self.root}' has both {self.fixed} and {self.moving}; see what its files are called."
            )
            raise InputError(msg)
        listed = [path.relative_to(self.root).as_posix() for row in rows for path in row.paths.values()]
        digest = hashlib.sha256(content + "\n".join(listed).encode("utf-8", "surrogateescape")).hexdigest()
        return Table(self.root, digest, tuple(rows), titles, tuple(problems), tuple(left_out), PAIRS_FOLDER)

    def _sides(self) -> tuple[tuple[str, BidsName], ...]:
        return ("fixed", self.fixed), ("moving", self.moving)

    def _matching(self, subject: Path, wanted: BidsName) -> list[Path]:
        """Return the volumes of a subject that are asked for; those named after another subject do not count."""
        found = []
        for path in self._volumes(subject):
            name = file_name(path.name)
            if name and f"sub-{name.entities.get('sub')}" == subject.name and wanted.accepts(name):
                found.append(path)
        return sorted(found)

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
        for _, cells in rows[1:]:
            row = dict(zip(titles, cells, strict=False))
            subject = f"sub-{row.pop(_SUBJECT).removeprefix('sub-')}"
            told[subject] = {named[title]: "" if cell == _NO_VALUE else cell for title, cell in row.items()}
        return tuple(named[title] for title in titles if title != _SUBJECT), told, content
