"""Tables in Markdown: medians with intervals, paired tests, who is ahead of ours, the paper's table 1 beside ours."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, median, stdev

from FoundationRegistrationLib.evaluation.statistics import Paired, holm, interval, paired

from .figures import CHANGE_SEEN, CPU, FOLDED, LESION, TARGETS, TRE, Figure, dice_of, figures_of
from .methods import METHODS, MIND, PRESET, STARTS, TRUTH
from .paper import paper_rows
from .records import DONE, NOT_AVAILABLE, Record

_SIGNIFICANT = 0.05
_LESION = "lesion volume error"  # as its columns are called beside the paper's
_STARTS = {method.name for method in STARTS}
_BESIDE = (TRE, FOLDED, CPU)


def by_method(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records by the name of their method, in the order of the list of methods."""
    order = {method.name: place for place, method in enumerate(METHODS)}
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: order.get(record["method"], len(order))):
        found.setdefault(record["method"], []).append(record)
    return found


def medians_table(records: list[Record], *, accuracy: bool) -> str:
    """Return a row a method: the runs that ended well, and of each figure the median and its 95 % interval.

    Args:
        records: of one group of cases.
        accuracy: the figures that tell how good a registration is; if not, those of the deformation and of the cost.
    """
    figures = [figure for figure in figures_of(records) if figure.accuracy == accuracy]
    rows = []
    for of_method in by_method(records).values():
        tried = [record for record in of_method if record["status"] != NOT_AVAILABLE]
        done = [record for record in tried if record["status"] == DONE]
        if tried:
            cells = [_median(list(figure.known(done).values()), figure.digits, len(done)) for figure in figures]
            rows.append([of_method[0]["label"], f"{len(done)} of {len(tried)}", *cells])
    return markdown_table(["method", "runs", *(figure.name for figure in figures)], rows)


def reference_of(records: Iterable[Record]) -> str:
    """Return which method of ours the others are tested against: the preset, or MIND where no preset was run."""
    done = {record["method"] for record in records if record["status"] == DONE}
    return PRESET.name if PRESET.name in done else MIND.name


def tests_of(records: list[Record], figure: Figure, reference: str) -> dict[str, Paired]:
    """Return each method against the reference on the cases of both; p-values are corrected for these methods."""
    methods = by_method(records)
    own = figure.known(methods.get(reference, []))
    found = {}
    for method, rows in methods.items():
        other = figure.known(rows)
        shared = sorted(own.keys() & other.keys())
        if shared and method not in (reference, TRUTH.name):
            found[method] = paired([other[case] for case in shared], [own[case] for case in shared])
    corrected = holm([test.p for test in found.values()])
    return {method: test._replace(p=p) for (method, test), p in zip(found.items(), corrected, strict=True)}


def tests_table(records: list[Record], reference: str) -> str:
    """Return a row a method: of each figure the median difference from the reference, and the corrected p-value."""
    figures = [figure for figure in figures_of(records) if figure.sign]
    tests = [tests_of(records, figure, reference) for figure in figures]
    rows = []
    for method, of_method in by_method(records).items():
        found = [of_figure.get(method) for of_figure in tests]
        pairs = max((test.pairs for test in found if test), default=0)
        if pairs:
            cells = [_test(test, figure, pairs) if test else "" for test, figure in zip(found, figures, strict=True)]
            rows.append([of_method[0]["label"], str(pairs), *cells])
    return markdown_table(["method", "pairs", *(figure.name for figure in figures)], rows)


def ahead(records: list[Record], reference: str) -> str:
    """Return, figure by figure, the methods whose median difference from the reference is for the better."""
    labels = {record["method"]: record["label"] for record in records}
    lines = []
    for figure in (figure for figure in figures_of(records) if figure.sign):
        better = [
            f"{labels[method]} {_test(test, figure, 0)}"
            for method, test in tests_of(records, figure, reference).items()
            if round(test.difference, figure.digits) * figure.sign > 0.0
            and (figure.accuracy or method not in _STARTS)
        ]
        if better:
            lines.append(f"- {figure.name}: {'; '.join(better)}")
    return "\n".join(lines) or "- nothing"


def paper_table(records: list[Record], task: str) -> str:
    """Return mean (SD) by method, Dice in percent, here and in the paper; empty for a task that its table lacks.

    Last come the medians of the error, of folding and of the cost, which the paper's table does not have.
    """
    paper = paper_rows(task)
    if not paper:
        return ""
    figures = {target: (dice_of(target), 100.0) for target in TARGETS} | {_LESION: (LESION, 1.0)}
    measured = by_method(records)
    rows = []
    for method in dict.fromkeys((*measured, *paper)):
        ours, theirs = measured.get(method, []), paper.get(method, {})
        row = [ours[0]["label"] if ours else theirs["label"], str(sum(r["status"] == DONE for r in ours) or "")]
        for target, (figure, scale) in figures.items():
            row.append(_mean_sd([scale * value for value in figure.known(ours).values()]))
            row.append(_as_printed(theirs.get(target), theirs.get(f"{target} SD")))
        medians = [list(figure.known(ours).values()) for figure in _BESIDE]
        row += [f"{median(v):.{figure.digits}f}" if v else "" for v, figure in zip(medians, _BESIDE, strict=True)]
        rows.append(row)
    heads = [*(head for target in figures for head in (target, "paper")), *(figure.name for figure in _BESIDE)]
    return markdown_table(["method", "pairs", *heads], rows)


def real_pairs_table(records: list[Record]) -> str:
    """Return a row a method and a column a pair: Dice, TRE, the lesion's change of volume and the change seen."""
    groups: dict[str, list[Figure]] = {}
    for group in dict.fromkeys(record["group"] for record in records):
        figures = figures_of([record for record in records if record["group"] == group])
        shown = [f for f in figures if f.name.startswith("Dice ") or f in (TRE, LESION, CHANGE_SEEN)]
        if shown:
            groups[group] = shown
    rows = []
    for of_method in by_method(record for record in records if record["status"] == DONE).values():
        cells = []
        for group, figures in groups.items():
            found = [list(f.known(r for r in of_method if r["group"] == group).values()) for f in figures]
            values = [f"{fmean(v):.{f.digits}f}" if v else "-" for v, f in zip(found, figures, strict=True)]
            cells.append("; ".join(values) if any(found) else "")
        rows.append([of_method[0]["label"], *cells])
    heads = [f"{group}: {'; '.join(figure.name for figure in figures)}" for group, figures in groups.items()]
    return markdown_table(["method", *heads], rows)


def failures(records: list[Record]) -> str:
    """Return what failed or could not run, with the reason."""
    lines = [
        f"- {record['case']}, {record['label']}: {record['status']}: {record['reason']}"
        for record in records
        if record["status"] != DONE
    ]
    return "\n".join(lines) or "Everything ran."


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    """Return rows of text below their heads, figures to the right."""
    if not rows:
        return "Nothing was run."
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(values: list[float], digits: int, runs: int) -> str:
    """Return a median with its interval, and the number of values where some runs have none."""
    if not values:
        return ""
    words = f"{median(values):.{digits}f}"
    bounds = interval(values)
    if bounds:
        words += f" [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
    return words if len(values) == runs else f"{words}, n = {len(values)}"


def _test(test: Paired, figure: Figure, pairs: int) -> str:
    """Return a difference and its p-value, in bold if significant, and the number of pairs where it is another."""
    words = f"{test.difference:+.{figure.digits}f}"
    if test.p <= 1.0:
        words += f" (p = {test.p:.2g})"
        words = f"**{words}**" if test.p < _SIGNIFICANT else words
    return words if pairs in (0, test.pairs) else f"{words}, n = {test.pairs}"


def _as_printed(mean: str | None, sd: str | None) -> str:
    return f"{mean} ({sd})" if sd else mean or ""


def _mean_sd(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ({stdev(values):.1f})" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"
