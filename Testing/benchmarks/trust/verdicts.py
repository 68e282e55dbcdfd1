"""The table of what the verdict catches and misses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from comparison.tables import markdown_table

from .runs import Run

LEVELS = ("good", "check", "failed", "refused")
_ACCURATE_MM, _LOST_MM = 2.0, 5.0
# Where a good verdict is wrong whatever the transform.
_NO_ANSWER = ("another patient", "another body part", "mirrored", "upside down", "turned by 180°", "turned by 90°")


def verdict_table(runs: Sequence[Run]) -> str:
    """Return the counts of verdicts by true error and by kind, and the shares that matter, as Markdown."""
    known = [run for run in runs if run.mean_error_mm is not None]
    rows: list[tuple[str, Callable[[Run], bool]]] = [
        (f"mean error below {_ACCURATE_MM:g} mm", lambda run: run.mean_error_mm < _ACCURATE_MM),
        (f"{_ACCURATE_MM:g} to {_LOST_MM:g} mm", lambda run: _ACCURATE_MM <= run.mean_error_mm <= _LOST_MM),
        (f"above {_LOST_MM:g} mm", lambda run: run.mean_error_mm > _LOST_MM),
    ]
    counts = [_counts(name, filter(chosen, known)) for name, chosen in rows]
    counts += [_counts(kind, (run for run in runs if run.kind == kind)) for kind in _NO_ANSWER]
    lost = [run for run in known if run.mean_error_mm > _LOST_MM]
    accurate = [run for run in known if run.mean_error_mm < _ACCURATE_MM]
    wrong = [run for run in runs if run.kind in _NO_ANSWER]
    lines = [
        markdown_table(["", "runs", *LEVELS], counts),
        "",
        f"- not good above {_LOST_MM:g} mm: {_share(lost, lambda run: run.level != 'good')}",
        f"- good below {_ACCURATE_MM:g} mm: {_share(accurate, lambda run: run.level == 'good')}",
        f"- good although there is no right answer: {_share(wrong, lambda run: run.level == 'good')}",
    ]
    missed = [run for run in (*lost, *wrong) if run.level == "good"]
    doubted = [run for run in accurate if run.level != "good"]
    lines += [f"- missed: {run.name}, {_error(run)}" for run in missed]
    lines += [f"- doubted: {run.name}, {_error(run)}: {run.reasons[0]}" for run in doubted]
    return "\n".join(lines) + "\n"


def _counts(name: str, runs: Iterable[Run]) -> list[str]:
    levels = [run.level for run in runs]
    return [name, str(len(levels)), *(str(levels.count(level)) for level in LEVELS)]


def _share(runs: Sequence[Run], chosen: Callable[[Run], bool]) -> str:
    count = sum(map(chosen, runs))
    return f"{count} of {len(runs)}" + (f" ({100 * count / len(runs):.0f} %)" if runs else "")


def _error(run: Run) -> str:
    return "no truth" if run.mean_error_mm is None else f"{run.mean_error_mm:.1f} mm"
