"""The names of the files of a registered series."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

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
