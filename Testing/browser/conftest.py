"""Pages opened from a folder in the system's Chromium; skipped, with the command that helps, where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTING), str(_TESTING / "engine")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from stand_in.system_packages import BROWSER_COMMAND, browser

    driver = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    program = browser()
    if program is None:
        pytest.skip(f"no Chromium; run: {BROWSER_COMMAND}")
    with driver.sync_playwright() as playwright:
        # The pages are the tests' own, and root may not use Chromium's sandbox.
        browser_ = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser_
        browser_.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open the page of a folder; at the end, nothing went wrong in it and nothing was asked for beyond the folder."""
    wrong: list[str] = []
    contexts = []

    def opened(folder: Path, address: str = "", **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        allowed = (folder.as_uri() + "/", "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(allowed) or wrong.append(f"asked {request.url}"))
        page.on("requestfailed", lambda request: wrong.append(f"not found: {request.url}"))
        page.on("console", lambda message: message.type == "log" or wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"said {dialog.message}"), dialog.dismiss()))
        page.goto((folder / "index.html").as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
