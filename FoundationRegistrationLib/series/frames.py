"""A dynamic series: its frames, their times, and the form it came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.checks import check_grid

Form = Literal["nifti", "sequence", "meta", "folder"]


@dataclass(frozen=True, eq=False)
class Series:
    """Volumes of one patient over time, such as before and after the injection of a contrast agent.

    Attributes:
        frames: two or more 3D scalar volumes, on one grid or on several; a single slice is a volume of one slice.
        times_s: time of each frame, s, increasing; None if it is not known.
        form: how it is stored: "nifti" (4D), "sequence" (NRRD with a list of frames, as of Slicer), "meta" (4D
            MetaImage) or "folder" (one file a frame).
        names: file names of the frames in a folder; empty for other forms.

    Raises:
        InputError: there are fewer than two frames, one is not a 3D scalar volume, or the times do not fit them.
    """

    frames: tuple[sitk.Image, ...]
    times_s: tuple[float, ...] | None = None
    form: Form = "sequence"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) < 2:
            msg = "A series has two frames or more; register a pair of volumes with `register`."
            raise InputError(msg)
        for index, frame in enumerate(self.frames):
            check_grid(frame, f"frame {index}")
        if self.times_s is not None and not are_times(self.times_s, len(self.frames)):
            msg = f"The times of the {len(self.frames)} frames are not as many increasing numbers of seconds."
            raise InputError(msg)

    @property
    def is_single_slice(self) -> bool:
        """Whether each frame is one slice."""
        return all(1 in frame.GetSize() for frame in self.frames)


def are_times(values: Sequence[float], count: int) -> bool:
    """Whether there is an increasing finite number for each of `count` frames."""
    return len(values) == count and bool(np.isfinite(values).all() and (np.diff(values) > 0.0).all())
