"""Plots of the records: Dice by structure, error at points, how strongly space is deformed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from FoundationRegistrationLib.files.outputs import complete_or_absent

from .methods import METHODS
from .records import DONE, Record

_ROW_INCHES = 0.24
_PANEL_INCHES = 3.4
_COLOURS = {"affine": "#777777", "peer": "#c2571a", "ours": "#1f5fa8"}
Value = Callable[[Record], float | None]


def write_plots(records: list[Record], folder: Path) -> list[Path]:
    """Write the plots as PNG into a folder and return their paths; a plot without any value is left out."""
    done = [record for record in records if record["status"] == DONE]
    targets = list(dict.fromkeys((r["group"], name) for r in done for name in r.get("dice", {})))
    dice = [(f"{group}\n{name}", group, _dice_of(name)) for group, name in targets]
    groups = list(dict.fromkeys(r["group"] for r in done if "tre_mm" in r))
    tre = [(group, group, lambda record: record.get("tre_mm", {}).get("mean")) for group in groups]
    everywhere = list(dict.fromkeys(r["group"] for r in done))
    spread = [(group, group, lambda record: record["jacobian"]["sd_log"]) for group in everywhere]
    wanted = (("dice", "Dice", dice), ("tre", "TRE, mm", tre), ("jacobian", "SD of log J", spread))
    return [_written(folder / f"{name}.png", label, panels, done) for name, label, panels in wanted if panels]


def _dice_of(name: str) -> Value:
    return lambda record: record.get("dice", {}).get(name)


def _written(path: Path, label: str, panels: list[tuple[str, str, Value]], records: list[Record]) -> Path:
    present = {record["method"]: record["label"] for record in records}
    order = [method.name for method in METHODS if method.name in present]
    order += sorted(set(present) - set(order))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    size = (1.8 + _PANEL_INCHES * columns, (0.9 + _ROW_INCHES * len(order)) * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel, (title, group, value) in zip(axes, panels, strict=False):
        _strip(panel, [r for r in records if r["group"] == group], order, value)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(label, fontsize=8)
    axes[0].set_yticks(range(len(order)), [present[name] for name in order])
    axes[0].invert_yaxis()
    for first in axes[::columns]:
        first.tick_params(axis="y", labelsize=8)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    with complete_or_absent(path) as unfinished:
        figure.savefig(unfinished, dpi=130, format="png")
    return path


def _strip(axes: Axes, records: list[Record], order: list[str], value: Value) -> None:
    """Draw each run as a dot and the mean of each method as a bar across its row."""
    for row, method in enumerate(order):
        values = [value(record) for record in records if record["method"] == method]
        known = [v for v in values if v is not None]
        if not known:
            continue
        colour = _COLOURS["affine" if method == "affine" else "ours" if method.startswith("ours-") else "peer"]
        axes.plot(known, [row] * len(known), "o", color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
        axes.plot([fmean(known)] * 2, [row - 0.35, row + 0.35], color=colour, linewidth=2)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.margins(x=0.06)
