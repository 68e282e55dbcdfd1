"""The files of a registered series: a folder for each frame, the corrected series, report and overview."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.bounded import object_in, plain_json, read_bounded
from ..files.digest import file_sha256
from ..files.outputs import staged_folder, write_json
from ..files.private_folders import CommitGuard
from ..io.transforms import read_transform, write_transform
from ..runtime.progress import Note
from ..settings import MOST_SETTINGS_BYTES
from .folders import FRAME_FILES, SERIES_FOLDER, SUMMARY, frame_folder, frame_folders
from .overview import draw_series
from .result import FrameResult, SeriesResult
from .writing import write_series_directly

_TRANSFORMS = FRAME_FILES[:2]


class FolderStore:
    """Keeps frames in the results folder as they are done; see `FrameStore`.

    Args:
        folder: results folder.
        count: number of frames of the series.
        guard: may end the process; see `staged_folder`.

    Attributes:
        kept: numbers of the frames that are there.
    """

    def __init__(self, folder: Path, count: int, guard: CommitGuard | None = None) -> None:
        self._folder = folder
        self._count = count
        self._guard = guard
        self.kept: set[int] = set()

    def load(self, index: int, key: str) -> FrameResult | None:
        """Return the frame of an earlier, interrupted run with the same inputs and settings, if it is whole."""
        place = self._folder / frame_folder(index, self._count)
        try:
            report = plain_json(read_bounded(place / FRAME_FILES[2], MOST_SETTINGS_BYTES))
            facts = report["frame"]
            files = {name: place / name for name in _TRANSFORMS}
            if facts["key"] != key or {name: file_sha256(file) for name, file in files.items()} != facts["sha256"]:
                return None
            transform, inverse = (read_transform(file) for file in files.values())
            messages = tuple(
                Note(message) if is_note else message
                for message, is_note in zip(facts["messages"], facts["are_notes"], strict=True)
            )
            motion = facts["motion_mm"]["mean"], facts["motion_mm"]["max"]
            result = FrameResult(
                facts["state"],
                transform,
                inverse,
                facts["verdict"],
                messages,
                motion,
                facts["folded_percent"],
                {name: part for name, part in report.items() if name != "frame"},
            )
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return None
        self.kept.add(index)
        return result

    def keep(self, index: int, key: str, result: FrameResult) -> None:
        """Write the folder of a frame, complete or not at all.

        Raises:
            OutputError: it cannot be written.
            RegistrationCancelledError: the process was told to end.
        """
        with staged_folder(self._folder, self._guard, replaced=_of_all_frames(self._folder)) as staging:
            _write_frame(staging / frame_folder(index, self._count), result, key)
        self.kept.add(index)


def save_series(
    result: SeriesResult,
    folder: str | os.PathLike[str],
    kept: Collection[int] = (),
    guard: CommitGuard | None = None,
    described: dict[str, Any] | None = None,
) -> None:
    """Write all files of a series, together or not at all.

    Args:
        result: the registered series.
        folder: results folder.
        kept: frames whose folders are already there.
        guard: may end the process; see `staged_folder`.
        described: further facts about the input, for the report.

    Raises:
        OutputError: the folder cannot be written.
        RegistrationCancelledError: the process was told to end.
    """
    folder = Path(folder)
    count = len(result.frames)
    names = [frame_folder(index, count) for index in range(count)]
    others = [place for place in frame_folders(folder).values() if place.name not in names]
    replaced = [*_of_all_frames(folder), *(f"{place.name}/{name}" for place in others for name in FRAME_FILES)]
    with staged_folder(folder, guard, replaced=replaced) as staging:
        for index, frame in enumerate(result.frames):
            if index not in kept:
                _write_frame(staging / names[index], frame, "")
        file = write_series_directly(result.corrected, staging)
        draw_series(staging / "overview.png", result)
        write_json(staging / "report.json", _report(result, names, file, described or {}))
    for place in (*others, folder / SERIES_FOLDER):
        with contextlib.suppress(OSError):  # kept if something else is in it
            place.rmdir()


def _of_all_frames(folder: Path) -> list[str]:
    """Return the names of the files about all frames that an earlier run has left in a folder."""
    series = object_in(folder / SUMMARY[0], MOST_SETTINGS_BYTES).get("series")
    is_ours = isinstance(series, dict) and series.get("corrected") == SERIES_FOLDER
    volumes = sorted((folder / SERIES_FOLDER).glob("*")) if is_ours else []
    return [*SUMMARY, *(f"{SERIES_FOLDER}/{path.name}" for path in volumes if path.is_file())]


def _write_frame(folder: Path, result: FrameResult, key: str) -> None:
    folder.mkdir(parents=True)
    write_transform(result.transform, folder / _TRANSFORMS[0])
    write_transform(result.inverse, folder / _TRANSFORMS[1])
    facts = {
        **result.facts(),
        "are_notes": [isinstance(message, Note) for message in result.messages],
        "key": key,
        "sha256": {name: file_sha256(folder / name) for name in _TRANSFORMS},
    }
    write_json(folder / FRAME_FILES[2], {"frame": facts, **result.report})


def _report(result: SeriesResult, names: list[str], file: str, described: dict[str, Any]) -> dict[str, Any]:
    times = result.series.times_s
    frames = [
        {"folder": name, "time_s": None if times is None else times[index], **frame.facts()}
        for index, (name, frame) in enumerate(zip(names, result.frames, strict=True))
    ]
    return {
        "series": {
            **described,
            "frames": len(names),
            "reference": "mean" if result.reference_frame is None else result.reference_frame,
            "corrected": file,
        },
        "frames": frames,
        "metrics": result.metrics,
        "messages": result.messages,
        **result.record,
    }
