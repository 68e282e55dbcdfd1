"""Robust standard output and error: closed, a broken pipe, a full disk, without Unicode."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

# A closed pipe (EINVAL on Windows), and a closed terminal.
_NOBODY_READS = {errno.EPIPE, errno.EIO, *([errno.EINVAL] if os.name == "nt" else [])}

_IS_SILENT: ContextVar[bool] = ContextVar("whether nothing is said", default=False)


@contextlib.contextmanager
def lenient_streams() -> Iterator[Callable[[], OSError | None]]:
    """Make writing to standard output and error never raise within the context.

    Output that cannot be written is dropped, and characters that the terminal lacks are escaped.

    Yields:
        A function that returns why standard output was lost although it has a reader; None if it was not.
    """
    _fill_closed_descriptors()
    output, error = _lenient(sys.stdout), _lenient(sys.stderr)

    def lost() -> OSError | None:
        output.flush()
        problem = getattr(getattr(getattr(output, "buffer", None), "raw", None), "problem", None)
        return None if problem is None or problem.errno in _NOBODY_READS else problem

    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            yield lost
        finally:
            output.flush()
            error.flush()


def say(lines: Iterable[str]) -> None:
    """Write lines to standard error, for output that is not meant for programs; nothing where it is silenced."""
    for line in () if _IS_SILENT.get() else lines:
        print(line, file=sys.stderr)  # noqa: T201 - the answer of a command


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Make `say` say nothing within the context."""
    token = _IS_SILENT.set(True)
    try:
        yield
    finally:
        _IS_SILENT.reset(token)


class _LenientFile(io.FileIO):
    """A file that drops what it cannot write, and remembers why."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes, or nothing after a failure."""
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
        return memoryview(data).nbytes


def _lenient(stream: TextIO | None) -> TextIO:
    """Return a robust stream with the same target."""
    if stream is None:  # it was closed before the start
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # an in-memory stream of the calling program
        return stream
    if os.name == "nt" and stream.isatty():  # a console, which does not accept bytes
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_LenientFile(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def _fill_closed_descriptors() -> None:
    """Keep other files from getting the descriptor of a closed standard stream, and with it library output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
