"""Warnings of ITK and its libraries, kept from the terminal and returned as text."""

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
    """Switch ITK's warnings to the terminal off, or on, within the block."""
    was_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(not is_silent)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_shown)


@contextlib.contextmanager
def same_locale() -> Iterator[None]:
    """Restore the locale of the process after the block: ITK's VTK reader changes it."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@contextlib.contextmanager
def reader_heard() -> Iterator[list[str]]:
    """Collect what ITK and its C libraries write to standard error in the block.

    They bypass Python and write to the file descriptor. Output of other threads is collected too, and all of it is
    logged at debug level: limit the block to one read.

    Yields:
        The lines, without their location in ITK's source; filled when the block ends.
    """
    heard: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            written = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no space for it: read all the same, in silence
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
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed or None
        sys.stderr.flush()
    try:
        kept = os.dup(_STANDARD_ERROR)
    except OSError:  # closed: nothing to collect
        yield
        return
    try:
        os.dup2(target, _STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, _STANDARD_ERROR)
        os.close(kept)
