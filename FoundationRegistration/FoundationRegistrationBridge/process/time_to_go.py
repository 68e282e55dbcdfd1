"""Time that a run still takes, from counted work and from how long its steps took in earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STARTING, DONE = "starting", "done"  # until the first step is reported, and while results are written
# Without earlier runs: before this fraction of the work, a remaining time would be a guess.
_LEAST_FRACTION = 0.25
# A step this many times faster or slower than expected did something else, such as reading features from the disk.
_ANOTHER_JOB = 4.0
# From this fraction of a step on, its counted work alone tells how long it still takes.
_SURE = 0.25
# How far the expected times are trusted against the steps that this run has finished.
_TRUST = 0.05


@dataclass
class TimeToGo:
    """Follows the steps of one run.

    Attributes:
        expected: seconds of each step in earlier runs, scaled to this one; empty if there were none.
        taken: measured seconds of each finished step, in order, the start of the process included.
    """

    expected: Mapping[str, float] = field(default_factory=dict)
    taken: dict[str, float] = field(default_factory=dict)
    _step: str = STARTING
    _began: float | None = None
    _step_began: float = 0.0
    _of_step: float = 0.0
    _reported: float = 0.0
    _first_report: tuple[float, float] | None = None
    _fraction: float = 0.0
    _counts_steps: bool = False

    def start(self, now: float) -> None:
        """Note that the run begins; times are in seconds of any one clock."""
        self._began = self._step_began = now

    def report(self, step: str, fraction: float, of_step: float, now: float) -> None:
        """Note the progress of the run: its step, and the completed fractions of the run and of the step."""
        if step != self._step:
            self._finish_step(now)
            self._step = step
        self._fraction, self._of_step, self._reported = fraction, of_step, now
        self._counts_steps |= of_step > 0.0
        self._first_report = self._first_report or (now, fraction)

    def remaining(self, now: float) -> float | None:
        """Return the seconds that the run still takes; None if that would be a guess.

        Without earlier runs it is known only where the work is counted evenly, as in a download: the shares of the
        steps of a registration depend on encoder, grid and machine.
        """
        if self.expected:
            pace = self._pace(now)
            to_come = [name for name in self.expected if name not in self.taken and name != self._step]
            rest = self._rest_of_step(pace * self.expected.get(self._step, 0.0), now)
            return rest + pace * sum(self.expected[name] for name in to_come)
        if self._first_report is None or self._counts_steps:
            return None
        began, already = self._first_report
        if self._fraction - already < _LEAST_FRACTION:
            return None
        return (now - began) * (1.0 - self._fraction) / (self._fraction - already)

    def _finish_step(self, now: float) -> None:
        self.taken[self._step] = self.taken.get(self._step, 0.0) + now - self._step_began
        self._step_began, self._of_step = now, 0.0

    def _pace(self, now: float) -> float:
        """Return how many times longer this run takes than expected, judged by the work that is done."""
        expected = _TRUST * sum(self.expected.values())
        measured = expected
        done = [(seconds, self.expected.get(name, 0.0)) for name, seconds in self.taken.items()]
        done.append((self._reported - self._step_began, self._of_step * self.expected.get(self._step, 0.0)))
        for seconds, usual in done:
            if usual / _ANOTHER_JOB < seconds < usual * _ANOTHER_JOB:
                measured, expected = measured + seconds, expected + usual
        return measured / expected

    def _rest_of_step(self, usual: float, now: float) -> float:
        """Return the seconds that the current step still takes, which usually takes `usual`.

        Counted work is not always even, so at first, until the usual time is used up, that counts too. Since the last
        report the clock goes on, but no work is known to be done.
        """
        elapsed, done = now - self._step_began, self._of_step
        timed = max(usual - elapsed, 0.0)
        if done <= 0.0:
            return timed
        overdue = min(max(elapsed / usual - 1.0, 0.0), 1.0) if usual > 0.0 else 1.0
        trust = max(min(done / _SURE, 1.0), overdue)
        counted = (self._reported - self._step_began) * (1.0 - done) / done - (now - self._reported)
        return trust * max(counted, 0.0) + (1.0 - trust) * timed
