"""The volumes of one series that lie at the same place, such as the time points of a dynamic acquisition."""

from __future__ import annotations

import datetime
import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .headers import DISTINCTIONS, Slice
from .moments import date, date_time, time_of_day
from .stack import Stack, check_no_copies, common_axes, place_tolerance_mm, stacked

# Clocks of an acquisition, the most reliable first. Those of the second line may be of the reconstruction.
_ACQUISITION_CLOCKS = (
    *("TemporalPositionTimeOffset", "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    *("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime"),
)
_CLOCKS = (*_ACQUISITION_CLOCKS, "ContentTime")
# Seconds in a unit of the clocks that are plain numbers.
_SECONDS = {
    "TemporalPositionTimeOffset": 1.0,
    **dict.fromkeys(("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime"), 1e-3),
}
# Tags of volumes that may be acquired together, or derived from one another.
_NOT_TEMPORAL = (
    *("EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime", "ImageType", "FrameType"),
    *("DiffusionBValue", "DiffusionGradientOrientation"),
)
_ANY_DATE = datetime.datetime(2000, 1, 1)
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Frame:
    """One of the volumes.

    Attributes:
        stack: its slices and their grid.
        seconds: from the acquisition of the first frame to that of this one; None if the files do not say.
        differs_in: the tag that separates the frames; empty if there is only one.
    """

    stack: Stack
    seconds: float | None
    differs_in: str


def frames_of(slices: list[Slice]) -> list[Frame]:
    """Split a series into the volumes at the same place, in time order; one if no place is shared.

    The most distinctive tag that separates them decides. If every slice has a time of its own, the n-th slice at each
    place belongs to the n-th frame, provided that each frame ends before the next begins. Without acquisition times
    the frames are in the order of that tag's values.

    Raises:
        InputError: no single tag separates them, or a frame has no regular grid or not that of the others; the text
            names the frame.
    """
    places = _places(slices)
    count = max(len(place) for place in places)
    keyword, groups = ("", [slices]) if count == 1 else _separated(places, count)
    starts = _starts(groups, keyword)
    if starts is not None:
        order = np.argsort(starts)
        groups = [groups[k] for k in order]
        starts = [float(starts[k] - starts[order[0]]) for k in order]
    stacks = [_stacked(group, number, keyword) for number, group in enumerate(groups, 1)]
    _check_same_grid(stacks, keyword)
    return [Frame(stack, starts[k] if starts else None, keyword) for k, stack in enumerate(stacks)]


def _places(slices: list[Slice]) -> list[list[Slice]]:
    """Return the slices at each place along the normal of their plane."""
    along = np.array([item.position for item in slices]) @ np.cross(*common_axes(slices))
    order = np.argsort(along, kind="stable")
    apart = place_tolerance_mm(slices)
    places = [[slices[order[0]]]]
    for before, k in itertools.pairwise(order):
        if along[k] - along[before] > apart:
            places.append([])
        places[-1].append(slices[k])
    return places


def _separated(places: list[list[Slice]], count: int) -> tuple[str, list[list[Slice]]]:
    """Return the tag that separates the slices at each place, and the slices of each frame."""
    for place in places:
        check_no_copies(place)
    for keyword in DISTINCTIONS:
        groups = _by_value(places, keyword)
        if len(groups) == count and all(len(_texts(place, keyword)) == len(place) for place in places):
            return keyword, groups
    for keyword in _CLOCKS:
        ranked = _by_rank(places, count, keyword)
        if ranked:
            return keyword, ranked
    short = min(places, key=len)
    if len(short) < count:
        msg = (
            f"has {count} images at most positions, but {len(short)} at that of {short[0].name}; copy the series "
            "again in full."
        )
        raise InputError(msg)
    differing = [keyword for keyword in DISTINCTIONS if any(len(_texts(place, keyword)) > 1 for place in places)]
    told = f"no single tag ({', '.join(differing[:3])})" if differing else "nothing"
    msg = (
        f"holds up to {count} images at one position, such as {places[0][0].name}, and {told} tells them apart; give "
        "the slices of one volume, or of one time series (dcm2niix separates them)."
    )
    raise InputError(msg)


def _texts(place: list[Slice], keyword: str) -> set[str]:
    return {item.text(keyword) for item in place}


def _by_value(places: list[list[Slice]], keyword: str) -> list[list[Slice]]:
    """Return the slices with each value of a tag, sorted by the value."""
    groups: defaultdict[str, list[Slice]] = defaultdict(list)
    for place in places:
        for item in place:
            groups[item.text(keyword)].append(item)

    def rank(text: str) -> tuple[float, str]:
        number = groups[text][0].numbers(keyword, 1)
        return (-np.inf if number is None else float(number[0])), text

    return [groups[text] for text in sorted(groups, key=rank)]


def _by_rank(places: list[list[Slice]], count: int, clock: str) -> list[list[Slice]]:
    """Return the n-th slices at all places by their own times; none if frames would overlap in time."""
    timed = []
    for place in places:
        times = _times(place, clock)
        if times is None or len(set(times)) != count:
            return []
        timed.append(sorted(zip(times, place, strict=True), key=lambda pair: pair[0]))
    ranks = list(zip(*timed, strict=True))
    ends = [max(time for time, _ in rank) for rank in ranks]
    begins = [min(time for time, _ in rank) for rank in ranks]
    if any(end >= begin for end, begin in zip(ends, begins[1:], strict=False)):
        return []
    return [[item for _, item in rank] for rank in ranks]


def _starts(groups: list[list[Slice]], keyword: str) -> list[float] | None:
    """Return when each frame began, in seconds from any moment; None if no clock tells the frames apart."""
    for clock in _ACQUISITION_CLOCKS if keyword in _NOT_TEMPORAL else _CLOCKS:
        times = _times([item for group in groups for item in group], clock)
        if times is None:
            continue
        ends = np.cumsum([len(group) for group in groups])
        starts = [min(times[end - len(group) : end]) for group, end in zip(groups, ends, strict=True)]
        if len(set(starts)) == len(groups):
            return starts
    return None


def _times(slices: list[Slice], clock: str) -> list[float] | None:
    """Return the time of each slice in seconds from any moment; None if one has none."""
    found = [_time(item, clock) for item in slices]
    times = [time for time in found if time is not None]
    if len(times) < len(found):
        return None
    undated = clock in ("AcquisitionTime", "ContentTime") and date(slices[0].values, _date_of(clock)) is None
    if undated and max(times) - min(times) > _DAY_SECONDS / 2:  # past midnight
        times = [time + _DAY_SECONDS * (time < _DAY_SECONDS / 2) for time in times]
    return times


def _date_of(clock: str) -> str:
    return clock.replace("Time", "Date")


def _time(item: Slice, clock: str) -> float | None:
    if clock in _SECONDS:
        value = item.numbers(clock, 1)
        return None if value is None else float(value[0]) * _SECONDS[clock]
    moment = date_time(item.values, clock)
    if not clock.endswith("DateTime"):
        time = time_of_day(item.values, clock)
        day = date(item.values, _date_of(clock)) or _ANY_DATE.date()
        moment = None if time is None else datetime.datetime.combine(day, time)
    return None if moment is None else (moment - _ANY_DATE).total_seconds()


def _stacked(group: list[Slice], number: int, keyword: str) -> Stack:
    try:
        return stacked(group)
    except InputError as error:
        if not keyword:
            raise
        msg = f"{error} This is {_name(group, number, keyword)}."
        raise InputError(msg) from error


def _name(group: list[Slice], number: int, keyword: str) -> str:
    return f"frame {number} ({keyword} {group[0].text(keyword)[:40] or 'none'})"


def _check_same_grid(stacks: list[Stack], keyword: str) -> None:
    """Refuse frames that lack slices at an end, or lie elsewhere."""
    longest = max(stacks, key=lambda stack: len(stack.slices))
    for number, stack in enumerate(stacks, 1):
        name = _name(stack.slices, number, keyword)
        if len(stack.slices) < len(longest.slices):
            msg = (
                f"has {len(stack.slices)} slices in {name} and {len(longest.slices)} in another; copy the series "
                "again in full."
            )
            raise InputError(msg)
        apart = [stack.slices[end].position - longest.slices[end].position for end in (0, -1)]
        if np.abs(apart).max() > place_tolerance_mm(stack.slices):
            msg = f"has frames at different places: {name} lies elsewhere than another; give volumes of one place."
            raise InputError(msg)
