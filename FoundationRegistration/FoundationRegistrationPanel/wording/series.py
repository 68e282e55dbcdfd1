"""The result of the registration of a series in words and units, from the record of its run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

from .messages import in_panel_words
from .result import Lines

_FRAMES = re.compile(r"^Frame(s?) ")


def series_verdict(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the level of the verdict, as of a pair, and what was done in one line; empty for an empty record.

    It is that of the worst time point; "failed" only if none was registered.
    """
    moved = _moved(record)
    if not moved:
        return "", ""
    done = [frame for frame in moved if frame["state"] == "registered"]
    if not done:
        return "failed", _("Failed: all time points were left as they were.")
    if len(done) < len(moved):
        words = _("Check: {done} of {count} time points were registered, the others left as they were.")
        return "check", words.format(done=len(done), count=len(moved))
    doubtful = sum(frame["verdict"] != "good" for frame in done)
    if doubtful:
        words = _("Check: all {count} time points were registered, {doubtful} of them doubtfully.")
        return "check", words.format(count=len(done), doubtful=doubtful)
    return "good", _("Good: all {count} time points were registered; look at them.").format(count=len(done))


def series_reasons(record: Mapping[str, Any]) -> list[str]:
    """Return the messages of a run, with the reasons why time points were left as they were."""
    return [in_panel_words(_FRAMES.sub(r"Time point\1 ", message)) for message in record.get("messages", ())]


def series_figures(record: Mapping[str, Any]) -> Lines:
    """Return the motion that was found, and how much changes over time before and after, as name and words."""
    lines: Lines = []
    done = [frame for frame in _moved(record) if frame["state"] == "registered"]
    if done:
        mean = sum(frame["motion_mm"]["mean"] for frame in done) / len(done)
        largest = max(frame["motion_mm"]["max"] for frame in done)
        words = _("{mean:.1f} mm on average, {largest:.1f} mm at most")
        lines.append((_("Motion found"), words.format(mean=mean, largest=largest)))
    metrics = record.get("metrics")
    if metrics:
        words = _("{before:.1f} % of the signal as acquired, {after:.1f} % registered, outside enhancing tissue")
        lines.append((_("Change over time"), words.format(**metrics["temporal_deviation_percent"])))
    return lines


def series_details(record: Mapping[str, Any], titles: Sequence[str]) -> list[str]:
    """Return verdict and motion of each time point, line by line.

    Args:
        record: of the run.
        titles: of the time points; fewer if the sequence was edited since.
    """
    return [
        _("Time point {title}: {words}").format(title=title, words=_of_frame(frame))
        for title, frame in zip(titles, record.get("frames", ()), strict=False)
    ]


def _moved(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the time points but for the reference."""
    return [frame for frame in record.get("frames", ()) if frame["state"] != "reference"]


def _of_frame(frame: Mapping[str, Any]) -> str:
    if frame["state"] == "reference":
        return _("reference")
    if frame["state"] != "registered":
        return _("left as it was")
    return _("{verdict}, motion {mean:.1f} mm on average, {max:.1f} mm at most").format(
        verdict=frame["verdict"], **frame["motion_mm"]
    )
