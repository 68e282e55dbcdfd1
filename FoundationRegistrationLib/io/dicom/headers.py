"""One slice of a DICOM series: its pixels' place, and its tags as pydicom gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError

# Tags that distinguish volumes at the same location, the most distinctive first.
DISTINCTIONS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "FrameReferenceTime",
    "InversionTime",
    "ImageType",
    "FrameType",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
    "AcquisitionNumber",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
ORIGINALS = "export the original slices from the scanner"
_NOT_PERPENDICULAR = 0.01


@dataclass(frozen=True)
class Slice:
    """One plane of pixels and its header.

    Attributes:
        path: its file.
        frame: its frame number in the file, from 0.
        frames: number of frames in the file.
        values: the tags of this slice by DICOM keyword, as in pydicom.
    """

    path: Path
    frame: int
    frames: int
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"'{self.path.name}'" if self.frames == 1 else f"frame {self.frame + 1} of '{self.path.name}'"

    @cached_property
    def position(self) -> np.ndarray:
        """Centre of the first pixel, (3,) in LPS mm.

        Raises:
            InputError: it is missing.
        """
        values = self.numbers("ImagePositionPatient", 3)
        if values is None:
            raise _placeless(self, "ImagePositionPatient")
        return values

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors in LPS along a row (the column index grows) and along a column, (2, 3).

        Raises:
            InputError: they are missing or not perpendicular.
        """
        values = self.numbers("ImageOrientationPatient", 6)
        axes = np.zeros((2, 3)) if values is None else values.reshape(2, 3)
        if np.abs(axes @ axes.T - np.eye(2)).max() > _NOT_PERPENDICULAR:
            raise _placeless(self, "ImageOrientationPatient")
        u, _, v = np.linalg.svd(axes, full_matrices=False)
        return u @ v

    @cached_property
    def pixel_spacing(self) -> np.ndarray:
        """Pixel spacing in mm along a row and along a column.

        Raises:
            InputError: it is missing.
        """
        values = self.numbers("PixelSpacing", 2)
        if values is None or values.min() <= 0:
            raise _placeless(self, "PixelSpacing")
        return values[::-1]

    @property
    def size(self) -> tuple[int, int]:
        """Number of columns and of rows."""
        return int(self.values["Columns"]), int(self.values["Rows"])

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return a tag's finite numbers; None if it is absent, not numeric or of another count."""
        return numbers(self.values.get(keyword), count)

    def text(self, keyword: str) -> str:
        """Return a tag as one line of text, empty if it is absent; equal numbers give equal texts."""
        value = self.values.get(keyword)
        texts = (f"{item:g}" if isinstance(item, float) else str(item) for item in _items(value))
        return "" if value is None else re.sub(r"[\s\x00-\x1f\x7f]+", " ", "\\".join(texts)).strip()


def _placeless(item: Slice, keyword: str) -> InputError:
    return InputError(f"does not give the positions of its slices: {item.name} has no valid {keyword}; {ORIGINALS}.")


def numbers(value: Any, count: int) -> np.ndarray | None:
    """Return a tag's value as finite numbers; None if it is not numeric or of another count."""
    try:
        found = np.array([float(item) for item in _items(value)])
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _items(value: Any) -> Sequence[Any]:
    """Return a tag's value as a sequence, also if it is a single value."""
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
