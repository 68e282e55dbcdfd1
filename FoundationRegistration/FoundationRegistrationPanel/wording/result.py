"""The result of a registration in words and units, from the record of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from .facts import duration

Lines = list[tuple[str, str]]


def figures(record: Mapping[str, Any]) -> Lines:
    """Return what a reader of the result needs, as name and words: expected error, volume change, folds."""
    metrics = record.get("metrics")
    if not metrics:
        return []
    is_linear = record["settings"].get("stages", "deformable") != "deformable"
    lines = [] if is_linear else [(_("Expected error"), _expected_error(metrics.get("expected_error")))]
    lines.append((_("Volume change"), _volume_change(metrics["jacobian"], is_linear=is_linear)))
    if lesions := metrics.get("lesion_volume_change_percent"):
        largest = max(abs(lesion["percent"]) for lesion in lesions)
        lines.append((_("Marked lesions"), _("keep their volume within {percent:.1f} %").format(percent=largest)))
    if not is_linear:
        lines.append((_("Folds"), _folds(metrics["jacobian"]["folded_percent"])))
    return [(name, words) for name, words in lines if words]


def _expected_error(expected: Mapping[str, Any] | None) -> str:
    if expected is None:  # record of an earlier version
        return ""
    if expected["median_mm"] is None:
        return _("not known")
    words = _("{median:.1f} mm (median; 90 % below {spread:.1f} mm), above 5 mm in {above:.0f} % of the anatomy")
    text = words.format(
        median=expected["median_mm"], spread=expected["spread_mm"], above=expected["above_5_mm_percent"]
    )
    unknown = expected.get("not_known_percent") or 0.0
    if round(unknown) > 0:
        text += _(", not known in {unknown:.0f} %").format(unknown=unknown)
    return text


def _volume_change(jacobian: Mapping[str, float], *, is_linear: bool) -> str:
    """Return by how much tissue of the moving volume grows; the Jacobian is that of the opposite direction."""
    if "mean" not in jacobian:  # record of an earlier version
        return ""
    text = _("{mean:+.1f} % overall").format(mean=_growth_percent(jacobian["mean"]))
    if is_linear or jacobian["min"] <= 0.0:
        return text
    return text + _(", {least:+.0f} to {most:+.0f} % locally").format(
        least=_growth_percent(jacobian["max"]), most=_growth_percent(jacobian["min"])
    )


def _growth_percent(determinant: float) -> float:
    return 100.0 * (1.0 / determinant - 1.0)


def _folds(percent: float) -> str:
    return _("none") if percent == 0.0 else _("{percent:.3f} % of the anatomy").format(percent=percent)


def details(record: Mapping[str, Any]) -> list[str]:
    """Return how the result was made and what is of interest to engineers, line by line."""
    metrics, lines = record.get("metrics"), []
    if not metrics:
        return []
    stages = record["settings"].get("stages", "deformable")
    if stages == "deformable":
        lines.append(_("Encoder: {encoder}").format(encoder=record["settings"]["encoder"]))
        words = _("Inverse consistency error: {mean:.2f} mm mean, {most:.2f} mm maximum. It is no accuracy.")
        error = metrics["inverse_error_mm"]
        lines.append(words.format(mean=error["mean"], most=error["max"]))
    else:
        lines.append(_("{stages} registration; the expected error is not known.").format(stages=stages.capitalize()))
    if timings := record.get("timings_seconds"):
        whole = _("Time: {time}").format(time=duration(sum(timings.values())))
        longest = max(timings, key=lambda step: timings[step])
        lines.append(
            _("{whole}, of which {step} {time}").format(whole=whole, step=longest, time=duration(timings[longest]))
        )
    return lines
