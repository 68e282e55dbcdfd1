"""What ITK and the libraries below it say of their own accord, kept from the terminal and turned into text."""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

import SimpleITK as sitk

_LOGGER = logging.getLogger(__name__)

_STANDARD_ERROR = 2
_PLACE = re.compile(r"^WARNING: In .*, line \d+\s*|^\w+ \((0x)?[0-9a-fA-F]+\): ", re.MULTILINE)


@contextlib.contextmanager
def itk_silent(is_silent: bool = True) -> Iterator[None]:
    """Keep ITK's own warnings from the terminal while the block runs, or let them be written again."""
    was_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(not is_silent)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_shown)


@contextlib.contextmanager
def same_locale() -> Iterator[None]:
    """Put the locale of the process back after the block: ITK's reader of VTK files leaves another one behind."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@contextlib.contextmanager
def reader_heard() -> Iterator[list[str]]:
    """Collect what ITK and the C libraries below it write to standard error in the block, complete after its end.

    They write to the file descriptor itself, past Python. What another thread writes there meanwhile is collected
    too, and all of it goes to the program's log at its finest level: keep the block to one reading.

    Yields:
        The lines, without the place in ITK's source, once the block has ended.
    """
    heard: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            written = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no room for it anywhere: read all the same, and let nothing be said
            with itk_silent(), same_locale():
                yield heard
            return
        with itk_silent(False), same_locale(), _standard_error_to(written.fileno()):
            yield heard
        written.seek(0)
        text = _PLACE.sub("", written.read().decode("utf-8", errors="replace"))
    heard += dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    for line in heard:
        _LOGGER.debug("reader: %s", line)


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
