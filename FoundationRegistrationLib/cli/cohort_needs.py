"""What the jobs of a cohort ask a cluster for, from the estimate for its largest pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FoundationRegistrationError

if TYPE_CHECKING:
    from ..cohort.plan import Pair

# An estimate is for the mean; a job that takes more is ended.
_SPARE_MEMORY = 1.25
_SPARE_TIME = 3.0


def expected_needs(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return the values `mem_mb` and `minutes_per_pair` of the workflow, as far as they can be told.

    The pair with the largest files is read, and estimated as by `register --dry-run`. The time is known only after a
    registration of this kind on this machine.

    Args:
        pairs: all of a table.
    """
    from .dry_run import expectation_of
    from .inputs import read_inputs
    from .parser import command_parser
    from .register import settings_from

    largest = max(pairs, key=lambda pair: sum(_size(pair.paths[side]) for side in ("fixed", "moving")))
    arguments = command_parser().parse_args(largest.commands(Path("estimated"))[0])
    try:
        settings = settings_from(arguments)
        expectation = expectation_of(read_inputs(arguments, settings, None, [], []), settings)
    except FoundationRegistrationError:  # its job will say so
        return {}
    needs = {"mem_mb": math.ceil(_SPARE_MEMORY * expectation.memory_bytes / 1e6)}
    if expectation.seconds is not None:
        needs["minutes_per_pair"] = math.ceil(_SPARE_TIME * expectation.seconds / 60.0)
    return needs


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
