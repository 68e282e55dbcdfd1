"""The folder of a registered series: the names of its files, and which frames its report says were not registered."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from ..files.bounded import object_in
from ..settings import MOST_SETTINGS_BYTES

# The corrected series, in one of these forms, or in a folder with one file a frame.
SERIES_FILES = ("series.nii.gz", "series.seq.nrrd", "series.mha")
SERIES_FOLDER = "series"
# Files that describe all frames: those of an earlier run go when the first frame of a new one is kept.
SUMMARY = ("report.json", "overview.png", *SERIES_FILES)
FRAME_FILES = ("transform.h5", "inverse.h5", "report.json")
_FRAME = re.compile(r"frame_(\d+)")


def frame_folder(index: int, count: int) -> str:
    """Return the name of the folder of a frame, such as "frame_03", so that all sort in the order of time."""
    return f"frame_{index:0{max(2, len(str(count - 1)))}d}"


def frame_folders(folder: Path) -> dict[int, Path]:
    """Return the folders of the frames of a registered series by their numbers."""
    with contextlib.suppress(OSError):
        found = ((_FRAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()) if path.is_dir())
        return {int(match[1]): path for match, path in found if match is not None}
    return {}


def frames_not_registered(corrected: Path) -> list[int]:
    """Return the numbers of the frames that are as acquired in a corrected series; none if no report is beside it.

    Args:
        corrected: file or folder of the series, as `series` writes it.
    """
    report = object_in(corrected.parent / SUMMARY[0], MOST_SETTINGS_BYTES)
    with contextlib.suppress(AttributeError, KeyError, TypeError):  # it is a report of something else
        if report["series"]["corrected"] == corrected.name:
            return [number for number, frame in enumerate(report["frames"]) if frame.get("state") == "failed"]
    return []
