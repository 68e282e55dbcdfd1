"""How a run over many pairs shows its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .shown_progress import json_line
from .terminal import say

if TYPE_CHECKING:
    from ..cohort.runner import News


def _line(news: News, output: Path) -> str:
    """Return the line of a finished pair."""
    name = news.pair.name
    if news.error:
        return f"{name}: failed{' before' if news.kind == 'still failed' else ''}: {news.error}"
    if news.kind == "held":
        return f"{name}: left to another run, which works on it"
    if news.kind == "not registered":
        return f"{name}: not registered with these inputs and settings, so left out"
    before = ", done before" if news.kind == "kept" else ""
    return f"{name}: verdict {_verdict(output / news.pair.folder)}, {news.seconds:.0f} s{before}"


def _verdict(folder: Path) -> str:
    from ..cohort.figures import report_of

    return str(report_of(folder).get("verdict", {}).get("level", "unknown"))


@contextmanager
def shown(kind: str, output: Path, count: int) -> Iterator[Callable[[News], None]]:
    """Yield a function that shows news as one bar with a line for each finished pair, or as lines of JSON.

    Args:
        kind: "bar", "json" or "none".
        output: folder of the cohort.
        count: of pairs.
    """
    view = _View(count)
    if kind == "json":

        def as_json(news: News) -> None:
            view.take(news)
            facts = {"pair": news.pair.name, "number": view.numbers[news.pair.name], "pairs": count}
            if news.kind == "progress":
                shown = {"step": f"{news.pair.name}: {news.step}", "fraction": view.fraction}
                json_line(
                    {"event": "progress", **shown, **facts, "pair_step": news.step, "pair_fraction": news.fraction}
                )
            else:
                verdict = _verdict(output / news.pair.folder) if news.kind in ("done", "kept") else ""
                ended = {"state": news.kind, "verdict": verdict, "error": news.error}
                json_line({"event": "pair", **facts, **ended, "seconds": round(news.seconds, 1)})

        yield as_json
        return
    if kind == "none":

        def as_lines(news: News) -> None:
            if news.kind != "progress":
                say([_line(news, output)])

        yield as_lines
        return
    from tqdm import tqdm

    with tqdm(total=1000, bar_format="{l_bar}{bar}|{postfix}", leave=False) as bar:

        def as_bar(news: News) -> None:
            view.take(news)
            if news.kind != "progress":
                tqdm.write(_line(news, output), file=sys.stderr)
            bar.set_description_str(f"{view.finished} of {count}", refresh=False)
            bar.set_postfix_str(view.remaining(), refresh=False)
            bar.update(round(1000 * view.fraction) - bar.n)

        yield as_bar


class _View:
    """What is known of a run from its news: completed fraction, and the remaining time."""

    def __init__(self, count: int) -> None:
        self.finished = 0
        self.numbers: dict[str, int] = {}
        self._count = count
        self._partly: dict[str, float] = {}
        self._worked: set[str] = set()
        self._began = time.monotonic()

    def take(self, news: News) -> None:
        """Take in what happened to a pair."""
        name = news.pair.name
        self.numbers.setdefault(name, len(self.numbers) + 1)
        if news.kind == "progress":
            self._partly[name] = news.fraction
            return
        self._partly.pop(name, None)
        self.finished += 1
        if news.kind in ("done", "failed"):
            self._worked.add(name)

    @property
    def fraction(self) -> float:
        """Completed fraction of all pairs."""
        return (self.finished + sum(self._partly.values())) / max(1, self._count)

    def remaining(self) -> str:
        """Return the remaining time in words, from the pairs that were worked on; empty if there is none yet."""
        worked = len(self._worked) + sum(self._partly.values())
        if not self._worked:
            return ""
        left = self._count - self.finished - sum(self._partly.values())
        minutes = (time.monotonic() - self._began) * left / worked / 60.0
        return f"about {minutes / 60.0:.1f} h left" if minutes >= 90.0 else f"about {minutes:.0f} min left"
