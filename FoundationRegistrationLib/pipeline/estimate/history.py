"""Time and memory of earlier registrations on this machine, to estimate those of the next one.

They are kept in the user's cache folder, with nothing of the volumes but the number of working voxels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...errors import OutputError
from ...features.cache import cache_folder
from ...files.bounded import plain_json, read_bounded
from ...files.outputs import complete_or_absent
from ...settings import Settings

if TYPE_CHECKING:
    from ..result import RegistrationResult

_FILE = "registration-runs.json"
_MOST_BYTES = 1_000_000
_KEPT = 100


@dataclasses.dataclass(frozen=True)
class PastRun:
    """A finished registration.

    Attributes:
        kind: method, device and threads, which determine the time for a voxel.
        voxels: of the working grid; 0 if the run was rigid or affine.
        seconds: total time.
        memory_bytes: peak memory.
    """

    kind: str
    voxels: int
    seconds: float
    memory_bytes: int


def kind_of(settings: Settings, device: str) -> str:
    """Return what determines the time of a registration beside the number of voxels.

    Args:
        settings: of the run.
        device: such as "cpu" or "cuda".
    """
    facts = (settings.preset, "+".join(settings.encoders), settings.stages, device, torch.get_num_threads())
    return " ".join(map(str, facts))


def past_run(settings: Settings, result: RegistrationResult) -> PastRun:
    """Return the time and memory of a registration that has just finished."""
    grid: dict[str, Any] = result.record.get("working_grid", {"shape_zyx": (0,)})
    kind = kind_of(settings, result.record["device"].partition(" ")[0])
    seconds = sum(result.timings.values())
    return PastRun(kind, math.prod(grid["shape_zyx"]), seconds, max(result.peak_memory.values()))


def remember(run: PastRun) -> None:
    """Keep a run for later estimates, in place of the oldest; nothing happens if the folder cannot be written."""
    path = _path()
    if path is None:
        return
    kept = [*_all_runs(path), run][-_KEPT:]
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with complete_or_absent(path) as unfinished:
            unfinished.write_text(json.dumps([dataclasses.asdict(each) for each in kept]), encoding="utf-8")


def expected_seconds(kind: str, voxels: int) -> tuple[float, int] | None:
    """Return the expected time of a run, and from how many earlier ones of its kind; None if there are none."""
    path = _path()
    alike = [run for run in (() if path is None else _all_runs(path)) if run.kind == kind and bool(run.voxels)]
    if not alike:
        return None
    return statistics.median(run.seconds / run.voxels for run in alike) * voxels, len(alike)


def _all_runs(path: Path) -> Sequence[PastRun]:
    try:
        return [PastRun(**values) for values in plain_json(read_bounded(path, _MOST_BYTES))]
    except (OSError, ValueError, TypeError):
        return ()


def _path() -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder.with_name(_FILE)
