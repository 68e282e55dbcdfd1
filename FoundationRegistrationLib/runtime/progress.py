"""Progress reports and cancellation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RegistrationCancelledError


@dataclass(frozen=True)
class ProgressEvent:
    """A progress report.

    Attributes:
        step: its name.
        fraction: completed fraction of the run, 0 to 1, by the usual shares of its steps.
        of_step: completed fraction of the step, 0 to 1, as far as its work is counted.
    """

    step: str
    fraction: float
    of_step: float = 0.0


class Note(str):
    """A message about how a run was done, not a warning about its result."""

    __slots__ = ()


def tell(found: Sequence[str], messages: list[str] | None, logger: logging.Logger) -> None:
    """Append warnings to a caller's messages; if there are none to append to, log them."""
    if messages is not None:
        messages += found
        return
    for message in found:
        logger.warning(message)


_LEAST_CHANGE = 0.002

ProgressCallback = Callable[[ProgressEvent], None]
CancelledCallback = Callable[[], bool]


class Progress:
    """Tracks and times the steps of a run; each report is also a chance to cancel.

    A run is a sequence of named steps with estimated shares. `start` begins the next step, `advance` reports the
    completed fraction of the current one. `timings` holds the seconds of each finished step.
    """

    def __init__(
        self,
        shares: dict[str, float],
        callback: ProgressCallback | None = None,
        cancelled: CancelledCallback | None = None,
    ) -> None:
        total = sum(shares.values())
        self._shares = {step: share / total for step, share in shares.items()}
        self._callback = callback
        self._cancelled = cancelled
        self._step = ""
        self._before = 0.0
        self._reported: tuple[str, float] = ("", -1.0)
        self._began = time.perf_counter()
        self.timings: dict[str, float] = {}

    def start(self, step: str) -> None:
        """Start a step; the previous one counts as done."""
        self._close_step()
        steps = list(self._shares)
        self._before = sum(self._shares[name] for name in steps[: steps.index(step)])
        self._step = step
        self.advance(0.0)

    def advance(self, fraction: float) -> None:
        """Report the completed fraction of the current step.

        Raises:
            RegistrationCancelledError: the caller cancelled the run.
        """
        self.check_cancelled()
        if self._callback is not None:
            of_step = min(max(fraction, 0.0), 1.0)
            done = self._before + self._shares.get(self._step, 0.0) * of_step
            step, reported = self._reported
            if step != self._step or done >= reported + _LEAST_CHANGE:
                self._reported = (self._step, done)
                self._callback(ProgressEvent(self._step, min(done, 1.0), of_step))

    def part(self, first: float, last: float) -> Callable[[float], None]:
        """Return `advance` for the part of the current step between two fractions: 0 is its begin, 1 its end."""
        return lambda fraction: self.advance(first + (last - first) * fraction)

    def check_cancelled(self) -> None:
        """Raise RegistrationCancelledError if the caller cancelled the run."""
        if self._cancelled is not None and self._cancelled():
            msg = "The registration was cancelled; nothing was written."
            raise RegistrationCancelledError(msg)

    def finish(self) -> None:
        """Report that the whole run is done."""
        self._close_step()
        if self._callback is not None:
            self._callback(ProgressEvent("done", 1.0))

    def _close_step(self) -> None:
        now = time.perf_counter()
        if self._step:
            self.timings[self._step] = self.timings.get(self._step, 0.0) + now - self._began
        self._began = now
        self._step = ""
