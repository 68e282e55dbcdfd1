"""What the image series in a folder are, and whether each can be read; only headers are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from .frames import frames_of
from .headers import Slice
from .series import every_series
from .stack import check_complete


@dataclass(frozen=True)
class SeriesFacts:
    """One series.

    Attributes:
        number: SeriesNumber; empty if there is none.
        modality: such as "MR".
        description: SeriesDescription.
        uid: SeriesInstanceUID.
        uid_beginning: as much of it as tells it from the other series.
        size: columns, rows and slices of a volume; of an unreadable series, all its slices.
        spacing_mm: of the voxels; empty if it is unreadable.
        volumes: number of volumes at the same place, such as time points; 0 if it is unreadable.
        differ_in: the tag that tells the volumes apart, such as "AcquisitionTime"; empty if there is one volume.
        file: one of its files, relative to the folder.
        problem: why it cannot be read as volumes, as the end of a sentence; empty if it can.
    """

    number: str
    modality: str
    description: str
    uid: str
    uid_beginning: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    volumes: int
    differ_in: str
    file: str
    problem: str


def list_series(folder: Path, messages: list[str]) -> list[SeriesFacts]:
    """Return the image series in a folder and its subfolders, by series number.

    Args:
        folder: where to look.
        messages: damaged files, which may belong to any series, are appended.

    Raises:
        InputError: too many files, or a folder that cannot be opened; the text follows the name of the folder.
    """
    series = every_series(folder, messages)
    uids = [slices[0].text("SeriesInstanceUID") for slices in series]
    found = [_facts(folder, slices, uids) for slices in series]
    return sorted(found, key=lambda facts: (int(facts.number or 0), facts.uid))


def _facts(folder: Path, slices: list[Slice], uids: Sequence[str]) -> SeriesFacts:
    first = slices[0]
    uid = first.text("SeriesInstanceUID")
    size, volumes, differ_in, problem = (*first.size, len(slices)), 0, "", ""
    spacing: tuple[float, ...] = ()
    try:
        check_complete(slices)
        frames = frames_of(slices)
    except InputError as error:
        problem = str(error)
    else:
        stack = frames[0].stack
        size, volumes, differ_in = (*first.size, len(stack.slices)), len(frames), frames[0].differs_in
        spacing = tuple(round(float(mm), 4) for mm in stack.spacing)
    return SeriesFacts(
        number=first.text("SeriesNumber"),
        modality=first.text("Modality"),
        description=first.text("SeriesDescription"),
        uid=uid,
        uid_beginning=_beginning(uid, uids),
        size=size,
        spacing_mm=spacing,
        volumes=volumes,
        differ_in=differ_in,
        file=first.path.relative_to(folder).as_posix(),
        problem=problem,
    )


def _beginning(uid: str, uids: Sequence[str]) -> str:
    """Return the shortest beginning of a UID with a point in it that no other UID shares."""
    lengths = range(uid.find(".") + 1, len(uid) + 1)
    others = [other for other in uids if other != uid]
    return next((uid[:k] for k in lengths if not any(other.startswith(uid[:k]) for other in others)), uid)
