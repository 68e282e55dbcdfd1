"""When the slices of a series were acquired, by one clock of their tags, also past midnight and summer time."""

from __future__ import annotations

import datetime

import numpy as np

from .headers import Slice
from .moments import date, date_time, time_of_day, utc_offset

# Clocks of an acquisition, the most reliable first.
ACQUISITION_CLOCKS = (
    *("TemporalPositionTimeOffset", "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    *("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime"),
)
# The last one may be of the reconstruction.
CLOCKS = (*ACQUISITION_CLOCKS, "ContentTime")
# Seconds in a unit of the clocks that are plain numbers.
_SECONDS = {
    "TemporalPositionTimeOffset": 1.0,
    **dict.fromkeys(("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime"), 1e-3),
}
# What tells the order of slices at one place whose dates are in doubt, the most reliable first.
_NUMBERS = ("TemporalPositionIdentifier", "TemporalPositionIndex", "InstanceNumber")
_ANY_DATE = datetime.datetime(2000, 1, 1)
_DAY_SECONDS = 86_400.0


def times_by(clock: str, places: list[list[Slice]], messages: list[str]) -> dict[int, float] | None:
    """Return the time of each slice in seconds from any moment, by the `id` of the slice; None if they do not tell.

    Offsets from UTC count if they are known of all slices. Times without a date that lie half a day or more apart
    pass midnight. With one and the same date, which a de-identifier may have set, the numbers of the time points or
    of the images at each place decide; if they do not, the clock tells no times.

    Args:
        clock: the tag.
        places: all slices of a series, by their place.
        messages: what is doubtful about the dates is appended, once.
    """
    slices = [item for place in places for item in place]
    if clock in _SECONDS:
        values = [item.numbers(clock, 1) for item in slices]
        return _by_slice(slices, [float(value[0]) * _SECONDS[clock] for value in values if value is not None])
    dated = clock.endswith("DateTime") or all(date(item.values, _date_of(clock)) is not None for item in slices)
    moments = [moment for moment in (_moment(item, clock, dated) for item in slices) if moment is not None]
    times = _by_slice(slices, [(moment - _ANY_DATE).total_seconds() for moment in moments])
    if times is None:
        return None
    if len({moment.date() for moment in moments}) == 1 and np.ptp([*times.values()]) > _DAY_SECONDS / 2:
        morning = {key for key, time in times.items() if time % _DAY_SECONDS < _DAY_SECONDS / 2}
        passes_midnight = _comes_last(morning, places) if dated else True
        if passes_midnight is None:
            _say(messages, f"has times at both ends of one date ({clock}), not used: nothing tells which are first.")
            return None
        if passes_midnight:
            times = {key: time + _DAY_SECONDS * (key in morning) for key, time in times.items()}
            if dated:
                _say(
                    messages,
                    f"has times of two days under one date ({clock}); the morning was taken as the next day.",
                )
    offsets = [offset for offset in (utc_offset(item.values, clock) for item in slices) if offset is not None]
    if len(offsets) < len(slices):
        return times
    return {id(item): times[id(item)] - gap.total_seconds() for item, gap in zip(slices, offsets, strict=True)}


def _by_slice(slices: list[Slice], times: list[float]) -> dict[int, float] | None:
    """Return times by the `id` of their slice; None if there are not as many."""
    if len(times) < len(slices):
        return None
    return {id(item): time for item, time in zip(slices, times, strict=True)}


def _date_of(clock: str) -> str:
    return clock.replace("Time", "Date")


def _moment(item: Slice, clock: str, dated: bool) -> datetime.datetime | None:
    """Return the local time of a slice by a clock that is no plain number, on any date if it is not `dated`."""
    if clock.endswith("DateTime"):
        return date_time(item.values, clock)
    time, day = time_of_day(item.values, clock), date(item.values, _date_of(clock)) if dated else _ANY_DATE.date()
    return None if time is None or day is None else datetime.datetime.combine(day, time)


def _comes_last(chosen: set[int], places: list[list[Slice]]) -> bool | None:
    """Whether some slices have higher numbers than the others at their place; None if no number is clear."""
    for keyword in _NUMBERS:
        found = {id(item): item.numbers(keyword, 1) for place in places for item in place}
        numbers = {key: float(value[0]) for key, value in found.items() if value is not None}
        if len(numbers) < len(found):
            continue
        sides = [
            [[numbers[id(item)] for item in place if (id(item) in chosen) == side] for side in (True, False)]
            for place in places
        ]
        mixed = [(those, others) for those, others in sides if those and others]
        if mixed and all(min(those) > max(others) for those, others in mixed):
            return True
        if mixed and all(max(those) < min(others) for those, others in mixed):
            return False
    return None


def _say(messages: list[str], text: str) -> None:
    if text not in messages:
        messages.append(text)
