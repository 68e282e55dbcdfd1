"""The result of the registration of a series."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import SimpleITK as sitk

from ..pipeline.assessment.verdict import Level
from .frames import Series

State = Literal["reference", "registered", "failed"]


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The registration of one frame.

    Attributes:
        state: "registered"; "reference" for the frame that the others are registered to; "failed" if the frame cannot
            be registered, or the verdict on it is "failed": it was left as it was.
        transform: maps points of the reference to points of the frame, LPS mm; the identity unless registered.
        inverse: maps points of the frame to points of the reference, LPS mm.
        verdict: whether to trust the registration, None if there was none.
        messages: reasons for the verdict, warnings and notes, the most serious first.
        motion_mm: mean and largest displacement of the reference's foreground.
        folded_percent: of the reference's foreground.
        report: of the registration, as `register` writes it, without what belongs to the series.
    """

    state: State
    transform: sitk.Transform
    inverse: sitk.Transform
    verdict: Level | None = None
    messages: tuple[str, ...] = ()
    motion_mm: tuple[float, float] = (0.0, 0.0)
    folded_percent: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return what describes it, for a report."""
        mean, largest = self.motion_mm
        return {
            "state": self.state,
            "verdict": self.verdict,
            "motion_mm": {"mean": mean, "max": largest},
            "folded_percent": self.folded_percent,
            "messages": list(self.messages),
        }


def left_as_it_was(
    state: State,
    messages: tuple[str, ...] = (),
    verdict: Level | None = None,
    report: Mapping[str, Any] | None = None,
) -> FrameResult:
    """Return the result of a frame that is not moved; see `FrameResult`."""
    identity = sitk.TranslationTransform(3)
    return FrameResult(state, identity, identity, verdict, messages, report=report or {})


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """The result of the registration of a series.

    Attributes:
        series: the series as given.
        reference: the volume that the frames are registered to.
        reference_frame: its frame; None for the mean of all frames.
        foreground: the mask of the reference that was given, else that of the anatomy in it.
        frames: the registration of each frame.
        corrected: the frames on the grid of the reference, each resampled once, with the times of the series.
        metrics: temporal deviation before and after, as plain numbers.
        messages: warnings and notes about the series, the most serious first.
        record: settings, versions, device and inputs.
    """

    series: Series
    reference: sitk.Image
    reference_frame: int | None
    foreground: sitk.Image
    frames: tuple[FrameResult, ...]
    corrected: Series
    metrics: Mapping[str, Any]
    messages: tuple[str, ...]
    record: Mapping[str, Any]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write what `foundation-registration series` writes: transforms, corrected series, report and overview.

        The files are written all together or not at all; those of an earlier run are replaced, others are kept.

        Args:
            folder: created if it does not exist.

        Raises:
            OutputError: the folder cannot be written.
        """
        from .saving import save_series

        save_series(self, folder)
