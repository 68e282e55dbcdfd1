"""Plots of the phantoms' Dice by subgroup, a file a task; figure 2b of the paper has the moving sequence alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from FoundationRegistrationLib.files.outputs import complete_or_absent

from .figures import TARGETS, dice_of
from .phantoms import GROUP
from .records import DONE, Record
from .tables import by_method

_DENSE = 0.18  # part of the breast's volume: the limit of BI-RADS b and c
_FAR_APART = 0.5  # raw Dice below which half of the paper's pairs begin
_SUBGROUPS: dict[str, Callable[[Record], str]] = {
    "moving sequence": lambda record: record["facts"]["moving sequence"],
    "density": lambda record: "dense (c, d)" if record["facts"]["density"] >= _DENSE else "fatty (a, b)",
    "raw breast Dice": lambda record: "0.5 and above" if _raw(record) >= _FAR_APART else "below 0.5",
}
_ROW_INCHES, _PANEL_INCHES, _LABEL_INCHES = 0.32, 3.3, 1.9
_SPREAD = 0.62  # of a row, over which the subgroups of a method lie


def write_plots(records: list[Record], folder: Path) -> dict[str, Path]:
    """Write a PNG for each task of the phantoms and return their paths by the group of the records."""
    done = [record for record in records if record["status"] == DONE]
    groups = dict.fromkeys(record["group"] for record in done)
    return {group: _written(folder, group, [r for r in done if r["group"] == group]) for group in groups}


def _raw(record: Record) -> float:
    return float(record["facts"]["raw breast Dice"])


def _written(folder: Path, group: str, records: list[Record]) -> Path:
    methods = by_method(records)
    split = {name: of for name, of in _SUBGROUPS.items() if len({of(record) for record in records}) > 1}
    split = split or dict([next(iter(_SUBGROUPS.items()))])
    width = _LABEL_INCHES + _PANEL_INCHES * len(TARGETS)
    size = (width, (0.6 + _ROW_INCHES * len(methods)) * len(split) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{group[0].upper()}{group[1:]}: Dice of each pair (points) and median (bars)")
    rows = figure.subplots(len(split), len(TARGETS), sharex=True, sharey=True, squeeze=False)
    for axes, (subgroup, named) in zip(rows, split.items(), strict=True):
        for panel, target in zip(axes, TARGETS, strict=True):
            _draw(panel, methods, target, named)
            panel.set_title(target)
        axes[-1].legend(
            *axes[0].get_legend_handles_labels(),
            title=subgroup,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
        )
    path = folder / f"{group.removeprefix(GROUP)}.png"
    with complete_or_absent(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)
    return path


def _draw(axes: Axes, methods: dict[str, list[Record]], target: str, named: Callable[[Record], str]) -> None:
    """Draw a row for each method: its pairs as points, a colour a subgroup, and the subgroup's median as a bar."""
    pairs = {record["case"]: named(record) for rows in methods.values() for record in rows}
    subgroups = sorted(set(pairs.values()))
    step = _SPREAD / len(subgroups)
    for index, subgroup in enumerate(subgroups):
        colour = colormaps["tab10"](index)
        label: str | None = f"{subgroup} (n = {sum(value == subgroup for value in pairs.values())})"
        shift = (index - (len(subgroups) - 1) / 2) * step
        for row, records in enumerate(methods.values()):
            values = list(dice_of(target).known(r for r in records if named(r) == subgroup).values())
            if values:
                axes.scatter(
                    values, [row + shift] * len(values), s=18, color=colour, alpha=0.5, linewidths=0, label=label
                )
                axes.vlines(median(values), row + shift - 0.5 * step, row + shift + 0.5 * step, color=colour, lw=2)
                label = None
    axes.set_yticks(range(len(methods)), [records[0]["label"] for records in methods.values()])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.0)
    axes.hlines([row + 0.5 for row in range(len(methods) - 1)], 0.0, 1.0, color="#dddddd", lw=0.6)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
