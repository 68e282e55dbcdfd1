"""The overview of a run: its page, its key figures, and their notebook display."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import SimpleITK as sitk

from ..evaluation import report
from ..io.paired_labels import PairedLabels
from ..runtime.progress import Note
from ..spatial.warping import displacement_on_grid_of, warp_image, warp_labels

if TYPE_CHECKING:
    from .result import RegistrationResult

# Number of lesions in the key figures of a run; the report has all of them.
_MOST_LESIONS = 5


def draw_overview(
    target: str | os.PathLike[str] | BinaryIO,
    result: RegistrationResult,
    labels: PairedLabels | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> None:
    """Draw the page of a run: volumes before and after, displacement, Jacobian, expected error, figures.

    Args:
        target: PNG file or binary stream.
        result: the run.
        labels: structures to outline.
        evaluation: results of `evaluate` for labels and landmarks.

    Raises:
        OutputError: the file cannot be written.
    """
    fixed, identity = result.fixed, sitk.TranslationTransform(3)
    outlines: dict[str, sitk.Image] = {}
    if labels is not None:
        fixed_labels, moving_labels = labels.drawn
        outlines = {
            "fixed_labels": fixed_labels,
            "labels_before": warp_labels(moving_labels, fixed, identity),
            "labels_after": warp_labels(moving_labels, fixed, result.transform),
        }
    expected_error = result.expected_error
    if expected_error is not None:
        expected_error = sitk.Resample(expected_error, fixed, identity, sitk.sitkNearestNeighbor, np.nan)
    report.save_overview(
        target,
        fixed,
        warp_image(result.moving, fixed, identity),
        result.warped,
        displacement_on_grid_of(fixed, result.transform),
        sitk.Resample(result.jacobian, fixed, identity, sitk.sitkLinear, useNearestNeighborExtrapolator=True),
        title=_title(result),
        verdict=(result.verdict.level, result.verdict.reasons),
        warnings=[message for message in result.messages if not isinstance(message, Note)],
        lines=[*summary(result, evaluation), *(message for message in result.messages if isinstance(message, Note))],
        expected_error=expected_error,
        focus=result.focus,
        **outlines,
    )


def _title(result: RegistrationResult) -> str:
    """Say which volume was registered to which, and how."""
    paths = [Path(result.record["inputs"][side].get("path", f"{side} volume")) for side in ("moving", "fixed")]
    moving, fixed = (path.name for path in paths)
    if moving == fixed:  # of two visits
        moving, fixed = (str(Path(path.parent.name, path.name)) for path in paths)
    settings = result.record["settings"]
    how = f"{settings['stages']} only" if result.deformation is None else f"encoder {settings['encoder']}"
    return f"{moving} registered to {fixed}, preset {settings['preset']}, {how}"


def summary(result: RegistrationResult, evaluation: Mapping[str, Any] | None = None) -> list[str]:
    """Return the key figures, one line each."""
    return [f"{name}: {figures}" for name, figures in key_figures(result, evaluation).items()]


def key_figures(result: RegistrationResult, evaluation: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the key figures of a run as text, by name."""
    jacobian, inverse = result.metrics["jacobian"], result.metrics["inverse_error_mm"]
    expected = result.metrics["expected_error"]
    figures = {
        "folded": f"{jacobian['folded_percent']:.3f} % of the anatomy; SD of log Jacobian {jacobian['sd_log']:.3f}",
        "inverse consistency error": f"{inverse['mean']:.3f} mm mean, {inverse['max']:.2f} mm max",
        "expected error": (
            "not known"
            if expected["median_mm"] is None
            else f"{expected['median_mm']:.1f} mm median (90 % of true errors below {expected['spread_mm']:.1f} mm), "
            f"95 % of the anatomy below {expected['percentile_95_mm']:.1f} mm"
        ),
        "expected error above 5 mm": (
            "not known"
            if expected["not_known_percent"] is None
            else f"{expected['above_5_mm_percent']:.1f} % of the anatomy; not known in "
            f"{expected['not_known_percent']:.1f} %"
        ),
        "time": f"{sum(result.timings.values()):.0f} s on {result.record['device']}",
    }
    for lesion in result.metrics.get("lesion_volume_change_percent", [])[:_MOST_LESIONS]:
        figures[f"{lesion['side']} lesion {lesion['label']}.{lesion['number']}"] = (
            f"{lesion['before_mm3']:.0f} mm³ before, {lesion['after_mm3']:.0f} mm³ after ({lesion['percent']:+.1f} %)"
        )
    return figures | _agreement(evaluation or {})


def notebook_page(result: RegistrationResult) -> str:
    """Return a run as HTML: verdict and messages first, then the key figures, then the overview as a picture."""
    picture = io.BytesIO()
    draw_overview(picture, result)
    messages = "".join(f"<li>{html.escape(message)}</li>" for message in (*result.verdict.reasons, *result.messages))
    rows = "".join(
        f"<tr><th style='text-align: left'>{html.escape(name)}</th><td style='text-align: left'>"
        f"{html.escape(figures)}</td></tr>"
        for name, figures in key_figures(result).items()
    )
    data = base64.b64encode(picture.getvalue()).decode("ascii")
    return (
        f"<div><p><b>Verdict: {result.verdict.level}</b></p>"
        f"{f'<ul>{messages}</ul>' if messages else ''}<table>{rows}</table>"
        f"<img alt='Overview of the registration' style='max-width: 100%' src='data:image/png;base64,{data}'></div>"
    )


def _agreement(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the results of labels and landmarks as text."""
    figures = {}
    if "labels" in evaluation:
        dice = evaluation["labels"]
        if dice["mean_dice_after"] is not None:
            drove = sum(row.get("drove", False) for row in dice["labels"])
            note = f" (structures that drove: {drove})" if drove else ""
            figures["mean Dice"] = f"{dice['mean_dice_before']:.3f} before, {dice['mean_dice_after']:.3f} after{note}"
    if "landmarks" in evaluation:
        tre = evaluation["landmarks"]
        figures["TRE"] = (
            f"{tre['tre_mm_before']['mean']:.2f} mm before, {tre['tre_mm_after']['mean']:.2f} mm after "
            f"({tre['count']} landmarks)"
        )
    if drove := evaluation.get("landmarks_that_drove"):
        figures["left out of the TRE"] = f"{drove} landmarks, because they drove the registration"
    return figures
