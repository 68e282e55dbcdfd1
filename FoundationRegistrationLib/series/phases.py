"""Which frames of a dynamic series are before contrast, early and late after it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..runtime.progress import tell
from .frames import are_times

_LOGGER = logging.getLogger(__name__)

FIRST_MINUTE_S = 60.0
INITIAL_PHASE_S = 120.0
"""The initial phase of BI-RADS: the first two minutes after the injection."""


@dataclass(frozen=True)
class Phases:
    """Frames by their number, from 0.

    Attributes:
        before: frames before contrast, whose mean is the signal before contrast.
        early: the frame of the early phase.
        late: the frame of the delayed phase; None if there is only one frame after contrast.
    """

    before: tuple[int, ...]
    early: int
    late: int | None


def choose_phases(
    count: int,
    times_s: Sequence[float] | None,
    before: int = 1,
    *,
    early_s: float | None = None,
    late_s: float | None = None,
    messages: list[str] | None = None,
) -> Phases:
    """Choose the frames that kinetic maps compare.

    Seconds are counted from the last frame before contrast, about when the agent is injected. The early frame is by
    default the last one of the first two minutes, or else the first after contrast; the late one, the last of all.
    Without times, they are the first and the last frame after contrast.

    Args:
        count: number of frames.
        times_s: time of each frame, s; None if not known.
        before: number of frames before contrast.
        early_s: take the frame nearest to these seconds as the early one.
        late_s: the same for the late one.
        messages: warnings are appended; if None, they are logged.

    Returns:
        The frames before contrast and the early and the late one.

    Raises:
        InputError: no frame is before or after contrast, the times do not increase, a frame is asked for by a time
            that the series does not have, or the late frame is not after the early one.
    """
    found: list[str] = []
    phases = _chosen(count, times_s, before, early_s, late_s, found)
    tell(found, messages, _LOGGER)
    return phases


def first_minute(count: int, times_s: Sequence[float] | None, before: int = 1) -> int:
    """Return the frame nearest to a minute after the last one before contrast; the next one if times are not known.

    Args:
        count: number of frames.
        times_s: time of each frame, s; None if not known.
        before: number of frames before contrast, at least one and fewer than all.

    Raises:
        InputError: the times do not increase.
    """
    if times_s is None:
        return before
    return before + int(np.argmin(np.abs(_after_contrast(count, times_s, before) - FIRST_MINUTE_S)))


def _chosen(
    count: int,
    times_s: Sequence[float] | None,
    before: int,
    early_s: float | None,
    late_s: float | None,
    messages: list[str],
) -> Phases:
    if not 1 <= before < count:
        msg = f"Of {count} frames, {before} cannot be before contrast: at least one is before it and one after it."
        raise InputError(msg)
    if times_s is None:
        if early_s is not None or late_s is not None:
            msg = "The times of the frames are not known, so none can be chosen by seconds; leave out early and late."
            raise InputError(msg)
        messages.append(
            "The times of the frames are not known: the first one after contrast is taken as early, the last as late."
        )
        return Phases(tuple(range(before)), before, count - 1 if count - 1 > before else None)
    after = _after_contrast(count, times_s, before)
    early = before + max(int(np.sum(after <= INITIAL_PHASE_S)) - 1, 0)
    if early == count - 1 and early > before and early_s is None:
        early = before  # all frames lie in the first two minutes
    if early_s is not None:
        early = before + _nearest(after, early_s, "early")
    late = count - 1 if late_s is None else before + _nearest(after, late_s, "late")
    if count - before == 1:
        messages.append("Only one frame is after contrast: there is no wash-out and no signal enhancement ratio.")
        return Phases(tuple(range(before)), early, None)
    if late <= early:
        msg = (
            f"The late frame ({late}, at {after[late - before]:g} s after contrast) does not follow the early one "
            f"({early}, at {after[early - before]:g} s); choose other times."
        )
        raise InputError(msg)
    if early_s is None and after[early - before] > INITIAL_PHASE_S:
        messages.append(
            f"The first frame after contrast lies {after[0]:g} s after the last one before it: the initial phase of "
            f"{INITIAL_PHASE_S:g} s is over by then, so the early maps may miss a peak."
        )
    return Phases(tuple(range(before)), early, late)


def _after_contrast(count: int, times_s: Sequence[float], before: int) -> np.ndarray:
    """Seconds of each frame after contrast since the last one before it."""
    if not are_times(times_s, count):
        msg = f"The times of the {count} frames are not as many increasing numbers of seconds."
        raise InputError(msg)
    times = np.asarray(times_s, np.float64)
    return times[before:] - times[before - 1]


def _nearest(after: np.ndarray, wanted_s: float, phase: str) -> int:
    """The number of the frame after contrast that is nearest to a time."""
    step = after[-1] / len(after)
    if not 0.0 < wanted_s <= after[-1] + 0.5 * step:
        msg = (
            f"No frame lies {wanted_s:g} s after contrast for the {phase} phase; the frames after it lie at "
            f"{after[0]:g} to {after[-1]:g} s."
        )
        raise InputError(msg)
    return int(np.argmin(np.abs(after - wanted_s)))
