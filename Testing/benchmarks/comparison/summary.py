"""One page with all tables, from the records alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from FoundationRegistrationLib.files.outputs import complete_or_absent, write_json

from .methods import METHODS, MIND
from .phantoms import GROUP
from .records import NOT_AVAILABLE, Record
from .tables import (
    ahead,
    failures,
    medians_table,
    paper_table,
    real_pairs_table,
    reference_of,
    tests_table,
)

_NO_ENCODERS = {method.name for method in METHODS if method.name.startswith("ours-") and not method.arguments}
_PREFACE = """\
Each cell is the median over the pairs with its 95 % bootstrap interval in brackets. Tests are two-sided Wilcoxon
signed-rank tests on the pairs of both methods; each shows the median difference, method minus reference, and p,
corrected by Holm's method for the methods of a column; bold means p < 0.05. With few pairs no difference can be
significant (at least 0.002 with ten, 0.25 with three, before correction).

All methods but "raw" and "NiftyReg affine" begin with the same affine. Dice and HD95 are of the warped moving labels.
TRE is the mean over points of the phantoms' tissue that both volumes show. The error of the lesion's volume is that
against its own before warping, and "against true motion" that against what the true motion makes of it. "Change
seen" is the contrast of changed lesions against that under the true transform, 1 if they stay as visible. Folding and
SD of log J (J: Jacobian determinant) are those of the deformable part inside the body. Seconds are those of the
method without the starting affine, on the clock and of all processors; memory is of all its processes. For research,
not a medical device."""

_AHEAD = """\
Every figure in which another method is better than ours in the median of the pairs, as far as the digits tell; costs
beside those of the deformable methods alone."""


def write_summary(records: list[Record], folder: Path) -> None:
    """Write comparison.md and comparison.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tried = [record for record in records if record["status"] != NOT_AVAILABLE]
    phantoms = [record for record in tried if record["group"].startswith(GROUP)]
    real = [record for record in tried if not record["group"].startswith(GROUP)]
    parts = ["# Comparison with other registration programs", _PREFACE, _made(tried), "## Where others are ahead"]
    parts.append(_AHEAD)
    groups = {group: [r for r in tried if r["group"] == group] for group in _in_order(r["group"] for r in tried)}
    for group, rows in groups.items():
        parts += [f"**{group}**, against {_label(rows, reference_of(rows))}:", ahead(rows, reference_of(rows))]
    parts += ["## Encoders against MIND", *_encoders(phantoms)]
    for group, rows in groups.items():
        parts += [f"## {group[0].upper()}{group[1:]}", *_section(rows)]
    parts += ["## Real pairs in short", real_pairs_table(real), "## What did not run", failures(records)]
    with complete_or_absent(folder / "comparison.md") as unfinished:
        unfinished.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    write_json(folder / "comparison.json", {"records": records})


def _section(rows: list[Record]) -> list[str]:
    """Return the tables of one group of cases."""
    parts = [medians_table(rows, accuracy=True), medians_table(rows, accuracy=False)]
    if len({record["case"] for record in rows}) > 1:
        reference = reference_of(rows)
        parts += [f"Against {_label(rows, reference)}:", tests_table(rows, reference)]
    beside = paper_table(rows, rows[0]["group"].removeprefix(GROUP))
    if beside:
        parts += ["Beside table 1 of the paper, whose patients are others: mean (SD), percent.", beside]
    return parts


def _encoders(phantoms: list[Record]) -> list[str]:
    """Return the tests of ours with each encoder against ours with MIND, all else equal: by task and for all."""
    rows = [r for r in phantoms if r["method"].startswith("ours-") and r["method"] not in _NO_ENCODERS]
    groups = {group: [r for r in rows if r["group"] == group] for group in _in_order(r["group"] for r in rows)}
    if len(groups) > 1:
        groups["all phantoms"] = rows
    parts = []
    for group, of_group in groups.items():
        parts += [f"**{group}**:", tests_table(of_group, MIND.name)]
    return parts or ["No encoder was run on a phantom."]


def _made(records: list[Record]) -> str:
    """Return how many runs there are, and from which states of the code."""
    commits = _in_order(record.get("versions", {}).get("commit", "unknown") for record in records)
    return f"{len(records)} runs on {len({r['case'] for r in records})} pairs, of commit {', '.join(commits)}."


def _label(rows: list[Record], method: str) -> str:
    return next((record["label"] for record in rows if record["method"] == method), method)


def _in_order(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
