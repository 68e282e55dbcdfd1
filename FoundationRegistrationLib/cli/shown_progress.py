"""Progress of a run as a bar, as lines, or as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..runtime.progress import ProgressCallback, ProgressEvent
from .terminal import say


@contextmanager
def shown_progress(kind: str, *, verbose: bool = False) -> Iterator[ProgressCallback]:
    """Yield a function that shows progress.

    Args:
        kind: "bar" (only in a terminal), "json" or "none".
        verbose: show a line with the time when each step begins, in place of the bar.
    """
    if kind == "json":
        yield lambda event: json_line({"event": "progress", **dataclasses.asdict(event)})
    elif verbose:
        yield _step_lines()
    elif kind == "bar" and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining}", leave=False) as bar:

            def show(event: ProgressEvent) -> None:
                bar.set_description_str(event.step, refresh=False)
                bar.update(round(100 * event.fraction) - bar.n)

            yield show
    else:
        yield lambda event: None


def json_line(content: Mapping[str, Any]) -> None:
    """Write a line of JSON to standard output, at once."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def _step_lines() -> Callable[[ProgressEvent], None]:
    began, last = time.perf_counter(), ""

    def show(event: ProgressEvent) -> None:
        nonlocal last
        if event.step != last:
            last = event.step
            say([f"{time.perf_counter() - began:7.1f} s  {event.step}"])

    return show
