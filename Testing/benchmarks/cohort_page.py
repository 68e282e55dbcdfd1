"""How quick the page of a cohort is: writing it, first paint, sorting and filtering in a headless Chromium.

    PYTHONPATH=Testing:Testing/engine python Testing/benchmarks/cohort_page.py --pairs 1500

Records are made up; each pair gets the same thumbnail. Times of the browser are those of its own clock, from the
click until the new rows are laid out, and until they are painted.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import made_up_rows, write_record, write_table
from stand_in.system_packages import browser

from FoundationRegistrationLib.cohort.page import write_page
from FoundationRegistrationLib.cohort.page.slices import Slices
from FoundationRegistrationLib.cohort.page.sprites import draw_sheets, draw_thumbnail

_LOGGER = logging.getLogger("cohort page")
_REPEATS = 5
_MEASURE = """async (action) => {
  const start = performance.now();
  action();
  document.body.offsetHeight;
  const laidOut = performance.now() - start;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [laidOut, performance.now() - start];
}"""
_SORT = (
    "() => [...document.querySelectorAll('#pairs thead button')].find((b) => b.textContent.startsWith('{}')).click()"
)
_FILTER = """() => {{
  const box = document.getElementById('text');
  box.value = '{}';
  box.dispatchEvent(new Event('input'));
}}"""


def main() -> None:
    """Make a cohort, open its page and print the times."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1500)
    count = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        cohort = Path(folder) / "cohort"
        make(cohort, count)
        for what in ("first", "again"):
            start = time.perf_counter()
            write_page(cohort)
            _LOGGER.info("write_page, %d pairs, %s: %.2f s", count, what, time.perf_counter() - start)
        data = cohort / "index_files" / "data.js"
        _LOGGER.info("data.js: %.0f kB", data.stat().st_size / 1e3)
        measure(cohort)


def make(cohort: Path, count: int) -> None:
    """Write made-up records, and pictures of an invented pair of the usual size that all pairs share."""
    start = time.process_time()
    z, y, x = np.ogrid[-1:1:40j, -1:1:240j, -1:1:320j]
    texture = np.random.default_rng(0).normal(0, 12, (40, 240, 320))
    body = np.clip(200 * (x**2 + y**2 + 0.3 * z**2 < 0.8) + texture, 0, 255).astype(np.uint8)
    layers = {"fixed": body, "registered": body, "before": np.roll(body, 9, 2)}
    slices = Slices(layers, (1.2, 1.2), list(range(40)), 20)
    files = {f"{name}.webp": data for name, data in draw_sheets(slices).files.items()}
    files["thumbnail.webp"] = draw_thumbnail(slices)
    _LOGGER.info(
        "pictures of a noisy pair of 40 slices of 240 x 320: %.0f kB in %.1f s of one core",
        sum(map(len, files.values())) / 1e3, time.process_time() - start,
    )  # fmt: skip
    rows = made_up_rows(count)
    for row in rows:
        if row["state"] == "done":
            page = cohort / row["folder"] / "page"
            page.mkdir(parents=True)
            write_record(page.parent, {"name": row["name"], "state": "done"})
            (page / "thumbnail.webp").write_bytes(files["thumbnail.webp"])
            known = '// {"content": "0123456789ab", "found": [true, true], "drawn": true}\nCOHORT_PAIR({});\n'
            (page / "pair.js").write_text(known, encoding="ascii")
    write_table(cohort, rows, ["site"])


def measure(cohort: Path) -> None:
    """Print the times of the page in a new browser, the median of several."""
    from playwright.sync_api import sync_playwright

    program = browser()
    if program is None:
        sys.exit("There is no Chromium to measure in; install the package chromium.")
    with (
        sync_playwright() as playwright,
        contextlib.closing(playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])) as chromium,
    ):
        times: dict[str, list[float]] = {}
        for _ in range(_REPEATS):
            context = chromium.new_context(viewport={"width": 1400, "height": 900})
            page = context.new_page()
            page.goto((cohort / "index.html").as_uri(), wait_until="load")
            for name, value in timed(page).items():
                times.setdefault(name, []).append(value)
            context.close()
        _LOGGER.info("%-52s %8s %8s", "milliseconds", "median", "longest")
        for name, values in times.items():
            _LOGGER.info("%-52s %8.0f %8.0f", name, statistics.median(values), max(values))


def timed(page: Any) -> dict[str, float]:
    """Return the times of one opened page in ms, by what was measured."""
    page.wait_for_function("performance.getEntriesByType('paint').length > 1")
    paints = page.evaluate("performance.getEntriesByType('paint').map((entry) => [entry.name, entry.startTime])")
    times = dict(paints)
    times["table and plots drawn"] = page.evaluate("performance.getEntriesByName('cohort shown')[0].startTime")
    for label in ("Pair", "Verdict", "Dice", "Expected error", "Messages"):
        action = _SORT.format(label)
        times[f"sort by {label}, laid out"], times[f"sort by {label}, painted"] = run(page, action)
    for text in ("boston", "duke_01", ""):
        times[f"filter by '{text}', plots too, laid out"], _ = run(page, _FILTER.format(text))
    jump = "() => { const s = document.getElementById('scroller'); s.scrollTop = s.scrollHeight / 2; }"
    _, times["jump to the middle, painted"] = run(page, jump)
    return times


def run(page: Any, action: str) -> list[float]:
    """Do something in a page; returns the times until laid out and until painted, ms."""
    return page.evaluate(f"({_MEASURE})({action})")


if __name__ == "__main__":
    main()
