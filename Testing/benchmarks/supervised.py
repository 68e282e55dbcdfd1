"""Blocks of work run one after the other in a process that is ended when one takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

Work = Callable[[str], Iterable[object]]
_CONTEXT = get_context("spawn")  # CUDA does not survive a fork
_REASON_LENGTH = 200


@dataclass(frozen=True)
class Ended:
    """A block that did not come to its end, and why, in one line."""

    block: str
    reason: str


def supervised(work: Work, limits: Mapping[str, float], seconds: float) -> Iterator[object]:
    """Yield what the blocks give, as soon as they give it.

    A block that raises, takes too long or ends its process yields `Ended` after what it had given; those after it run
    in a new process.

    Args:
        work: is called with the name of a block, in the other process, and yields what can be pickled.
        limits: seconds that each block may take, by its name, in their order.
        seconds: what all of them may take.
    """
    ends = time.monotonic() + seconds
    waiting = list(limits)
    while waiting and time.monotonic() < ends:
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_run, args=(work, tuple(waiting), sender), daemon=True)
        process.start()
        sender.close()
        try:
            is_well = True
            while waiting and is_well:
                block = waiting.pop(0)
                for given in _given_by(receiver, block, min(limits[block], ends - time.monotonic())):
                    yield given
                    is_well = not isinstance(given, Ended)
        finally:
            process.kill()
            process.join()
            receiver.close()
    yield from (Ended(block, "no time was left") for block in waiting)


def _given_by(receiver: Connection, block: str, seconds: float) -> Iterator[object]:
    """Yield what a block gives until it says that it is done (None), at last `Ended` where it does not come to it."""
    until = time.monotonic() + seconds
    while True:
        if not receiver.poll(max(0.0, until - time.monotonic())):
            yield Ended(block, f"stopped after {seconds:.0f} s")
            return
        try:
            given = receiver.recv()
        except EOFError:
            given = Ended(block, "its process ended without a word")
        if given is not None:
            yield given
        if given is None or isinstance(given, Ended):
            return


def _run(work: Work, blocks: tuple[str, ...], sender: Connection) -> None:
    """Run blocks in this process until one fails, after which the device may be unusable."""
    for block in blocks:
        try:
            for given in work(block):
                sender.send(given)
        except Exception as error:  # whatever it is, it is written and the other blocks go on
            sender.send(Ended(block, reason_of(error)))
            return
        sender.send(None)


def reason_of(error: BaseException) -> str:
    """Return an error in one short line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_REASON_LENGTH]
