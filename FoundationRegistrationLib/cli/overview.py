"""The overview of a run: its page and its key figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..runtime.progress import Note
from .inputs import Inputs

# Lesions in the summary of a run; the report has all of them.
_MOST_LESION_LINES = 5


def draw_overview(path: Path, inputs: Inputs, result: Any, messages: list[str], evaluation: dict[str, Any]) -> None:
    """Draw the page of a run: volumes before and after, displacement, Jacobian, expected error, figures."""
    import SimpleITK as sitk

    from ..convex_adam.confidence import NOT_KNOWN_MM
    from ..evaluation.report import save_overview
    from ..spatial.warping import displacement_on_grid_of, warp_image, warp_labels

    identity = sitk.TranslationTransform(3)
    labels: dict[str, Any] = {}
    if inputs.labels is not None:
        fixed_labels, moving_labels = inputs.labels.drawn
        labels = {
            "fixed_labels": fixed_labels,
            "labels_before": warp_labels(moving_labels, inputs.fixed, identity),
            "labels_after": warp_labels(moving_labels, inputs.fixed, result.transform),
        }
    save_overview(
        path,
        inputs.fixed,
        warp_image(inputs.moving, inputs.fixed, identity),
        result.warped,
        displacement_on_grid_of(inputs.fixed, result.transform),
        sitk.Resample(result.jacobian, inputs.fixed, identity, sitk.sitkLinear, useNearestNeighborExtrapolator=True),
        title=f"Registration with {result.record['settings']['encoder']}",
        warnings=[message for message in messages if not isinstance(message, Note)],
        lines=[*summary(result, evaluation), *(message for message in messages if isinstance(message, Note))],
        expected_error=sitk.Resample(
            result.confidence, inputs.fixed, identity, sitk.sitkNearestNeighbor, NOT_KNOWN_MM
        ),
        **labels,
    )


def summary(result: Any, evaluation: dict[str, Any]) -> list[str]:
    """Return the key figures, a line each."""
    jacobian, inverse = result.metrics["jacobian"], result.metrics["inverse_error_mm"]
    expected = result.metrics["expected_error"]
    lines = [
        f"folded: {jacobian['folded_percent']:.3f} % of the anatomy; SD of log Jacobian {jacobian['sd_log']:.3f}",
        f"forward then inverse: {inverse['mean']:.3f} mm mean, {inverse['max']:.2f} mm max",
        f"expected error: {expected['median_mm']:.1f} mm median, 95 % below {expected['percentile_95_mm']:.1f} mm",
        f"expected error above 5 mm in {expected['above_5_mm_percent']:.1f} % of the anatomy, "
        f"not known in {expected['not_known_percent']:.1f} %",
        f"time: {sum(result.timings.values()):.0f} s on {result.record['device']}",
    ]
    lines += [
        f"{lesion['side']} lesion {lesion['label']}.{lesion['number']}: {lesion['before_mm3']:.0f} mm³ before, "
        f"{lesion['after_mm3']:.0f} mm³ after ({lesion['percent']:+.1f} %)"
        for lesion in result.metrics["lesion_volume_change_percent"][:_MOST_LESION_LINES]
    ]
    if "labels" in evaluation:
        dice = evaluation["labels"]
        if dice["mean_dice_after"] is not None:
            lines.append(f"mean Dice: {dice['mean_dice_before']:.3f} before, {dice['mean_dice_after']:.3f} after")
    if "landmarks" in evaluation:
        tre = evaluation["landmarks"]
        lines.append(
            f"TRE: {tre['tre_mm_before']['mean']:.2f} mm before, {tre['tre_mm_after']['mean']:.2f} mm after "
            f"({tre['count']} landmarks)"
        )
    return lines
