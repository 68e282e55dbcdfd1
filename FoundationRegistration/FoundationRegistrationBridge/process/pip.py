"""Installs Python packages with pip in a process of its own, which does not block Slicer and can be ended."""

from __future__ import annotations

import importlib
import re
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..errors import BridgeError
from ..library import python_executable, worker_environment
from .dependencies import constraints, missing, why_pip_failed
from .tree import ProcessTree

_LINES = 200
_READERS_SECONDS = 1.0
_COLLECTING = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")
_INSTALLING = "Installing collected packages"
_COLLECTED = 0.9  # completed fraction when pip has everything


class PipProcess:
    """A running installation; poll `running` from a timer.

    Args:
        requirements: packages to install, as wheels; every other one keeps its version.

    Attributes:
        cancelled: whether it was told to end.

    Raises:
        BridgeError: it cannot be started.
    """

    def __init__(self, requirements: Sequence[Requirement]) -> None:
        self.cancelled = False
        self._requirements = list(requirements)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._waiting = {canonicalize_name(requirement.name) for requirement in requirements}
        self._collected = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="FoundationRegistration-")
        kept = Path(self._folder.name) / "constraints.txt"
        kept.write_text("".join(f"{line}\n" for line in constraints(requirements)), encoding="utf-8")
        command = [str(python_executable()), "-m", "pip", "install", "--only-binary", ":all:", "--no-input"]
        command += ["--disable-pip-version-check", "--progress-bar", "off", "--constraint", str(kept)]
        try:
            self._tree = ProcessTree(
                [*command, *map(str, requirements)], worker_environment(), Path(self._folder.name)
            )
        except OSError as error:
            self._folder.cleanup()
            msg = f"pip cannot be started ({error.strerror}); reinstall 3D Slicer."
            raise BridgeError(msg) from error
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True, name="pip output")
            for stream in self._tree.outputs
        ]
        for reader in self._readers:
            reader.start()

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of pip."""
        return tuple(self._lines)

    @property
    def fraction(self) -> float:
        """The completed fraction, about: how many of the packages pip has found."""
        return self._collected

    def running(self) -> bool:
        """Whether pip is running; once it is not, nothing of it is left."""
        if self._tree.running():
            return True
        for reader in self._readers:
            reader.join(_READERS_SECONDS)
        self._folder.cleanup()
        return False

    def cancel(self) -> None:
        """End pip within two seconds; returns at once. What it has installed by then stays."""
        self.cancelled = True
        self._tree.end()

    def failure(self) -> str | None:
        """Return why the ended installation failed and what to do; None if all packages are there."""
        importlib.invalidate_caches()
        absent = missing(self._requirements)
        if self._tree.exit_code == 0 and not absent:
            return None
        if self._tree.exit_code == 0:
            names = ", ".join(requirement.name for requirement in absent)
            return f"Still missing after the installation: {names}; restart Slicer, then press Register again."
        return why_pip_failed(self.log)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode("utf-8", errors="replace").rstrip()
                self._lines.append(text)
                if found := _COLLECTING.match(text.strip()):
                    self._waiting.discard(canonicalize_name(found[1]))
                    self._collected = _COLLECTED * (1.0 - len(self._waiting) / len(self._requirements))
                elif text.startswith(_INSTALLING):
                    self._collected = _COLLECTED
