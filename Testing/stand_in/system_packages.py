"""The system libraries that Qt and off-screen OpenGL need, and a browser; `make test` runs this before the tests.

As root on Debian or Ubuntu what is missing is installed. Elsewhere the tests that need it are skipped, with the
reason and the command.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

PACKAGES = (
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "libglib2.0-0",
    "libxkbcommon0",
    "libdbus-1-3",
    "libfontconfig1",
)
COMMAND = f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"
BROWSER_PACKAGES = ("chromium", "fonts-dejavu-core")
BROWSER_COMMAND = f"apt-get install --no-install-recommends {' '.join(BROWSER_PACKAGES)}"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_DRAWING = """
import vtk
window = vtk.vtkRenderWindow()
window.SetShowWindow(False)
window.SetOffScreenRendering(True)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
"""


def can_draw() -> bool:
    """Tell whether VTK can draw here; in a process of its own, since without an OpenGL library it would end."""
    return subprocess.run([sys.executable, "-c", _DRAWING], capture_output=True, check=False).returncode == 0


def why_no_qt() -> str:
    """Return why Qt cannot be used here and what to do; empty if it can."""
    try:
        import PySide6.QtTest
        import PySide6.QtWidgets  # noqa: F401
    except ImportError as error:
        return f"Qt cannot be loaded ({error}); run: {COMMAND}"
    return ""


def browser() -> str | None:
    """Return the program of an installed Chromium or Chrome."""
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def main() -> None:
    """Install what is missing, if that can be done here."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not can_draw() or why_no_qt():
        _install("the panel and of pictures", PACKAGES, COMMAND)
    if browser() is None:
        _install("pages in a browser", BROWSER_PACKAGES, BROWSER_COMMAND)


def _install(tests: str, packages: Sequence[str], command: str) -> None:
    """Install packages that tests need, or say that these will be skipped."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        logging.info("Tests of %s will be skipped; as root, run: %s", tests, command)
        return
    logging.info("Installing what the tests of %s need.", tests)
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        if subprocess.run(["apt-get", "--quiet", *arguments], check=False).returncode != 0:
            logging.info("That failed, so these tests will be skipped; try: %s", command)
            return


if __name__ == "__main__":
    main()
