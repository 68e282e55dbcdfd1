"""The readable list of encoders: training, weights, findings and measurements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..encoders import EncoderInfo, encoder_families, encoders
from ..weights import missing_weights

if TYPE_CHECKING:
    from .encoder_measuring import Measurement

_LINE = "{:20s} {:8s} {:>9s} {:>9s}  {}"
_FINDING = "what the paper found (Dice: longitudinal, cross-sequence, lesion)"


def encoder_facts(info: EncoderInfo) -> dict[str, Any]:
    """Return the properties of an encoder for JSON, and whether its weights are on this machine."""
    facts = ("name", "title", "kind", "channels", "components", "tokens")
    more = ("domain", "strategy", "finding", "license", "citation")
    missing = missing_weights(info.weights)
    return {
        **{field: getattr(info, field) for field in (*facts, *more)},
        "weights": list(info.weights),
        "weights_present": not missing,
        "weights_missing": missing,
    }


def encoder_text(info: EncoderInfo, measured: Mapping[str, Measurement | None]) -> str:
    """Return the description of an encoder on the command line."""
    tokens = f"{info.tokens} x {info.tokens} tokens per slice" if info.tokens else "one descriptor per voxel"
    lines = [
        f"{info.title}: D = {info.channels}, d = {info.components}, {tokens}",
        f"trained on: {info.domain}; {info.strategy}",
        f"paper: {info.finding}",
        f"license: {info.license}; {info.citation}",
        f"weights: {_weights_text(info)}",
    ]
    if info.name in measured:
        lines.append(f"here: {_measured_text(measured[info.name])}")
    return "\n".join(f"{info.name if index == 0 else '':20s} {line}" for index, line in enumerate(lines))


def encoder_lines() -> Iterator[str]:
    """Yield the table of all encoders and families: whether each is ready to use on this machine."""
    yield _LINE.format("encoder", "weights", "tokens", "features", "network")
    for info in encoders().values():
        weights = "missing" if missing_weights(info.weights) else "ready"
        tokens = f"{info.tokens} x {info.tokens}" if info.tokens else "a voxel"
        yield _LINE.format(info.name, weights, tokens, str(info.channels), info.title)
    for prefix, family in encoder_families().items():
        yield _LINE.format(f"{prefix}NAME", "", "", "", family.title)
    yield "`foundation-registration encoders NAME` says more of one, and how to get weights that are missing."


def encoder_table(measured: Mapping[str, Measurement | None] | None = None) -> str:
    """Return all encoders as a Markdown table, with two more columns for measurements."""
    header = ["name", "network", "trained on", "how", "D", "d", "tokens", "license", _FINDING]
    rows = [_table_row(info) for info in encoders().values()]
    if measured is not None:
        header += ["s a slice", "memory"]
        rows = [[*row, *_table_figures(measured.get(row[0].strip("`")))] for row in rows]
    rows += [[f"`{prefix}NAME`", family.title] for prefix, family in encoder_families().items()]
    return "\n".join(_table_lines(header, rows))


def _table_row(info: EncoderInfo) -> list[str]:
    tokens = f"{info.tokens}²" if info.tokens else "a voxel"
    facts = [f"`{info.name}`", info.title, info.domain, info.strategy, str(info.channels), str(info.components)]
    return [*facts, tokens, info.license, info.finding]


def _table_figures(figures: Measurement | None) -> list[str]:
    return [f"{figures.seconds:.2f}", f"{figures.memory_bytes / 1e9:.1f} GB"] if figures else ["", ""]


def _table_lines(header: list[str], rows: Iterable[list[str]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join([*row, *[''] * (len(header) - len(row))])} |"


def _weights_text(info: EncoderInfo) -> str:
    missing = missing_weights(info.weights)
    if missing:
        commands = " and ".join(f"foundation-registration weights download {name}" for name in missing)
        return f"missing; get them with: {commands}"
    return "on this machine" if info.weights else "nothing to download"


def _measured_text(figures: Measurement | None) -> str:
    if figures is None:
        return "not enough memory for one slice"
    random = "" if figures.trained else " (random weights, which take the same time)"
    memory = f"{figures.memory_bytes / 1e9:.1f} GB at most"
    return f"{figures.seconds:.2f} s per slice, {memory}, on {figures.device}{random}"
