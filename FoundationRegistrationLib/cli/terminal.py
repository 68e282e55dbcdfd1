"""Standard output and error as they may be: closed, a pipe that nobody reads, a full disk, without Unicode."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

# A reader that has had enough (EINVAL on Windows), and a terminal that was closed.
_NOBODY_READS = {errno.EPIPE, errno.EIO, *([errno.EINVAL] if os.name == "nt" else [])}


@contextlib.contextmanager
def lenient_streams() -> Iterator[Callable[[], OSError | None]]:
    """Let standard output and error take anything without an exception while the context is open.

    What cannot be written is left out, and characters that the terminal does not have are written as codes.

    Yields:
        A function that tells why a part of standard output is lost that somebody waits for; None if nothing is.
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
    """Write lines to standard error, where the answers of commands stand that are not for programs."""
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - the answer of a command


class _LenientFile(io.FileIO):
    """A file that takes what it cannot write, and remembers why."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes, or nothing once that has failed."""
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
        return memoryview(data).nbytes


def _lenient(stream: TextIO | None) -> TextIO:
    """Return a stream that writes to the same place."""
    if stream is None:  # it was closed before the start
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # one that a program put there, in memory
        return stream
    if os.name == "nt" and stream.isatty():  # a console, which takes no bytes
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
    """Let no file get the number of a closed standard stream later, and with it what libraries print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
