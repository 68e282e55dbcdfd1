"""The volumes of one series that lie at the same place, such as the time points of a dynamic acquisition."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .clocks import ACQUISITION_CLOCKS, CLOCKS, times_by
from .headers import DISTINCTIONS, Slice
from .stack import Stack, check_no_copies, common_axes, place_tolerance_mm, stacked

# Tags of volumes that may be acquired together, or derived from one another.
_NOT_TEMPORAL = (
    *("EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime", "ImageType", "FrameType"),
    *("DiffusionBValue", "DiffusionGradientOrientation"),
)


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


def frames_of(slices: list[Slice], messages: list[str] | None = None) -> list[Frame]:
    """Split a series into the volumes at the same place, in time order; one if no place is shared.

    The most distinctive tag that separates them decides. If every slice has a time of its own, the n-th slice at each
    place belongs to the n-th frame, provided that each frame ends before the next begins. Without acquisition times
    the frames are in the order of that tag's values.

    Args:
        slices: of the series.
        messages: what is doubtful about the dates is appended; the text follows the name of the series.

    Raises:
        InputError: no single tag separates them, or a frame has no regular grid or not that of the others; the text
            names the frame.
    """
    said = [] if messages is None else messages
    places = _places(slices)
    count = max(len(place) for place in places)
    keyword, groups = ("", [slices]) if count == 1 else _separated(places, count, said)
    starts = _starts(groups, keyword, places, said)
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


def _separated(places: list[list[Slice]], count: int, messages: list[str]) -> tuple[str, list[list[Slice]]]:
    """Return the tag that separates the slices at each place, and the slices of each frame."""
    for place in places:
        check_no_copies(place)
    for keyword in DISTINCTIONS:
        groups = _by_value(places, keyword)
        if len(groups) == count and all(len(_texts(place, keyword)) == len(place) for place in places):
            return keyword, groups
    for keyword in CLOCKS:
        ranked = _by_rank(places, count, keyword, messages)
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


def _by_rank(places: list[list[Slice]], count: int, clock: str, messages: list[str]) -> list[list[Slice]]:
    """Return the n-th slices at all places by their own times; none if frames would overlap in time."""
    times = times_by(clock, places, messages)
    if times is None or any(len({times[id(item)] for item in place}) != count for place in places):
        return []
    ranks = [
        list(rank)
        for rank in zip(*(sorted(place, key=lambda item: times[id(item)]) for place in places), strict=True)
    ]
    ends = [max(times[id(item)] for item in rank) for rank in ranks]
    begins = [min(times[id(item)] for item in rank) for rank in ranks]
    return [] if any(end >= begin for end, begin in zip(ends, begins[1:], strict=False)) else ranks


def _starts(
    groups: list[list[Slice]], keyword: str, places: list[list[Slice]], messages: list[str]
) -> list[float] | None:
    """Return when each frame began, in seconds from any moment; None if no clock tells the frames apart.

    The time of the content counts only where it agrees with the tag that separates the frames: images may have been
    reconstructed in another order than they were acquired.
    """
    for clock in ACQUISITION_CLOCKS if keyword in _NOT_TEMPORAL else CLOCKS:
        times = times_by(clock, places, messages)
        if times is None:
            continue
        starts = [min(times[id(item)] for item in group) for group in groups]
        agrees = clock in (keyword, *ACQUISITION_CLOCKS) or starts == sorted(starts)
        if len(set(starts)) == len(groups) and agrees:
            return starts
    return None


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
