"""The evaluation of a registration as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_COLUMNS = (24, 17, 21, 25, 9)
_NOTHING = "-"


def evaluation_lines(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table: before and after, for each structure and for the landmarks.

    The volumes are those drawn in the moving and in the fixed image, with the growth from one to the other; the last
    column is how much the volume of the moving structure was changed by warping it.

    Args:
        evaluation: Dice, HD95, volumes and TRE as `evaluate` returns them.
    """
    if labels := evaluation.get("labels"):
        yield _row("structure", "Dice", "HD95, mm", "moving -> fixed, cm3", "warping")
        for row in labels["labels"]:
            change = labels["volume_error"].get(row["label"])
            yield _row(
                f"{row.get('name', row['label'])}{' (drove)' if row.get('drove') else ''}",
                _before_after(row["dice_before"], row["dice_after"], ".3f"),
                _before_after(row["hausdorff95_mm_before"], row["hausdorff95_mm_after"], ".1f"),
                _growth(labels["volumes_cm3"].get(row["label"], {})),
                _NOTHING if change is None else f"{100 * change:.1f} %",
            )
        if len(labels["labels"]) > 1:
            yield _row(
                "mean",
                _before_after(labels["mean_dice_before"], labels["mean_dice_after"], ".3f"),
                _before_after(labels["mean_hausdorff95_mm_before"], labels["mean_hausdorff95_mm_after"], ".1f"),
                "",
                "",
            )
    if landmarks := evaluation.get("landmarks"):
        before, after = landmarks["tre_mm_before"], landmarks["tre_mm_after"]
        yield _row("landmarks", "mean TRE, mm", "largest TRE, mm", "", "")
        yield _row(
            str(landmarks["count"]),
            _before_after(before["mean"], after["mean"], ".2f"),
            _before_after(before["max"], after["max"], ".2f"),
            "",
            "",
        )
    if drove := evaluation.get("landmarks_that_drove"):
        yield f"Left out of the TRE, because they drove the registration: {drove} landmarks."


def _growth(volumes: Mapping[str, float]) -> str:
    moving, fixed = volumes.get("moving"), volumes.get("fixed")
    drawn = _before_after(moving, fixed, ".3g")
    return drawn if moving is None or fixed is None else f"{drawn} ({100.0 * (fixed / moving - 1.0):+.0f} %)"


def _before_after(before: float | None, after: float | None, form: str) -> str:
    return " -> ".join(_NOTHING if value is None else format(value, form) for value in (before, after))


def _row(first: str, *others: str) -> str:
    cells = (cell.rjust(width) for cell, width in zip(others, _COLUMNS[1:], strict=True))
    return " ".join([first.ljust(_COLUMNS[0]), *cells]).rstrip()
