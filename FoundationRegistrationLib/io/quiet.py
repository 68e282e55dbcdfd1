"""What ITK and the libraries below it say of their own accord, kept from the terminal and turned into text."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

import SimpleITK as sitk

_LOGGER = logging.getLogger(__name__)

_STANDARD_ERROR = 2
_PLACE = re.compile(r"^WARNING: In .*, line \d+\s*|\w+ \((0x)?[0-9a-f]+\): ", re.MULTILINE)


class _Listener(sitk.LoggerBase):
    """Hears what ITK says; SimpleITK calls these methods by name."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard

    def _hear(self, text: str) -> None:
        line = " ".join(_PLACE.sub("", text).split())
        if line and line not in self._heard:
            self._heard.append(line)

    DisplayText = DisplayErrorText = DisplayWarningText = DisplayGenericOutputText = DisplayDebugText = _hear


@contextlib.contextmanager
def itk_heard() -> Iterator[list[str]]:
    """Collect ITK's own messages, a line each and without their place in its source, while the block runs.

    They go to the program's log as well, at its finest level, and never to the terminal.
    """
    heard: list[str] = []
    listener = _Listener(heard)
    previous = listener.SetAsGlobalITKLogger()
    try:
        yield heard
    finally:
        previous.SetAsGlobalITKLogger()
        for line in heard:
            _LOGGER.debug("ITK: %s", line)


@contextlib.contextmanager
def reader_heard() -> Iterator[list[str]]:
    """Collect ITK's messages, and at the end what the C libraries below it wrote to standard error.

    These write to the file descriptor itself, past Python. What another thread writes there meanwhile goes to the
    log too: keep the block to one reading.
    """
    with itk_heard() as heard, tempfile.TemporaryFile() as written:
        with _standard_error_to(written.fileno()):
            yield heard
        written.seek(0)
        for line in written.read().decode("utf-8", errors="replace").splitlines():
            _LOGGER.debug("reader: %s", line)
            heard.append(line.strip())


@contextlib.contextmanager
def _standard_error_to(target: int) -> Iterator[None]:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed or none
        sys.stderr.flush()
    try:
        kept = os.dup(_STANDARD_ERROR)
    except OSError:  # closed: nothing can be heard
        yield
        return
    try:
        os.dup2(target, _STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, _STANDARD_ERROR)
        os.close(kept)
