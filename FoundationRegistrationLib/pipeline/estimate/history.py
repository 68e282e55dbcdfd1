"""Time and memory of earlier registrations on this machine, to estimate those of the next one.

They are kept in the user's cache folder, with nothing of the volumes but numbers of working voxels. Nothing here
needs torch: the panel asks whenever a choice changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OutputError
from ...files.bounded import plain_json, read_bounded
from ...files.outputs import complete_or_absent
from ...files.user_folders import cache_root
from ...settings import Settings

if TYPE_CHECKING:
    from ..result import RegistrationResult

READING, WRITING = "reading", "writing"  # the first and the last step of a run
_FILE = "registration-runs.json"
_MOST_BYTES = 1_000_000
_KEPT, _KEPT_OF_A_KIND = 100, 20
# Share of the time of a step that does not depend on the voxels: loading libraries, drawing the overview.
_CONSTANT = {READING: 1.0, "inverse and warp": 0.5, WRITING: 0.5}
_FAR_APART = 2.0


@dataclasses.dataclass(frozen=True)
class PastRun:
    """A finished registration.

    Attributes:
        kind: see `kind_of`.
        voxels: of the working grid; 0 if the run was rigid or affine.
        fixed_voxels: see `voxels_of`, of the fixed volume.
        memory_bytes: peak memory.
        steps: seconds of each step, in order.
    """

    kind: str
    voxels: int
    fixed_voxels: float
    memory_bytes: int
    steps: dict[str, float]


@dataclasses.dataclass(frozen=True)
class ExpectedRun:
    """What a registration is expected to take.

    Attributes:
        memory_bytes: peak memory.
        steps: seconds of each step, in order.
        runs: how many earlier runs tell it.
    """

    memory_bytes: float
    steps: dict[str, float]
    runs: int

    @property
    def seconds(self) -> float:
        """The time of the whole run."""
        return sum(self.steps.values())


def kind_of(settings: Settings) -> str:
    """Return what determines the time of a registration beside the number of voxels.

    Args:
        settings: suited to the voxels of both volumes.
    """
    encoders = "+".join(settings.encoders)
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    facts = (settings.preset, encoders, settings.stages, settings.slice_gap, settings.device, threads)
    return " ".join(map(str, facts))


def voxels_of(size: Sequence[int], spacing: Sequence[float], settings: Settings) -> float:
    """Return the number of working voxels in the field of view of a volume.

    Args:
        size: of the volume, voxels.
        spacing: of the volume, mm.
        settings: with the working spacing.
    """
    return math.prod(size) * math.prod(spacing) / settings.working_spacing_mm**3


def past_run(result: RegistrationResult) -> PastRun:
    """Return the time and memory of a registration that has just finished."""
    record = result.record
    settings = Settings.from_dict(record["settings"])
    grid: dict[str, Any] = record.get("working_grid", {"shape_zyx": (0,)})
    return PastRun(
        kind_of(settings),
        math.prod(grid["shape_zyx"]),
        voxels_of(record["fixed"]["size"], record["fixed"]["spacing"], settings),
        max(result.peak_memory.values()),
        dict(result.timings),
    )


def remember(run: PastRun) -> None:
    """Keep a run for later estimates, in place of the oldest; nothing happens if the folder cannot be written.

    Of each kind some are kept, so that a large cohort does not displace all others.
    """
    path = _path()
    if path is None:
        return
    runs = [*_all_runs(path), run]
    surplus = [number for number, each in enumerate(runs) if each.kind == run.kind][:-_KEPT_OF_A_KIND]
    kept = [each for number, each in enumerate(runs) if number not in surplus][-_KEPT:]
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with complete_or_absent(path) as unfinished:
            unfinished.write_text(json.dumps([dataclasses.asdict(each) for each in kept]), encoding="utf-8")


def expected_run(settings: Settings, fixed_voxels: float, voxels: int = 0) -> ExpectedRun | None:
    """Return what a run is expected to take, from earlier ones of its kind; None if there are none.

    Args:
        settings: suited to the voxels of both volumes.
        fixed_voxels: see `voxels_of`, of the fixed volume.
        voxels: of the working grid, which tell more than those, if they are known; else 0.
    """
    path, kind = _path(), kind_of(settings)
    alike = [run for run in (() if path is None else _all_runs(path)) if run.kind == kind]
    size = voxels or fixed_voxels
    sizes = [run.voxels if voxels else run.fixed_voxels for run in alike]
    if not alike or min(size, *sizes) <= 0:
        return None
    steps = {}
    for name in alike[-1].steps:
        measured = [(each, run.steps[name]) for each, run in zip(sizes, alike, strict=True) if name in run.steps]
        steps[name] = _at(size, measured, _CONSTANT.get(name, 0.0))
    nearest, memory = min(
        ((each, run.memory_bytes) for each, run in zip(sizes, alike, strict=True)),
        key=lambda known: abs(known[0] - size),
    )
    return ExpectedRun(memory * max(1.0, size / nearest), steps, len(alike))


def _at(voxels: float, measured: Sequence[tuple[float, float]], constant: float) -> float:
    """Return the seconds of a step at a number of voxels.

    From numbers of voxels of much the same size a constant part cannot be told from chance; then the usual share is
    taken. Otherwise it is along a line through what was measured, if that rises from 0 or more.

    Args:
        voxels: of the run to come.
        measured: numbers of voxels and seconds of earlier runs.
        constant: share of the time that usually does not depend on the voxels.
    """
    sizes, seconds = zip(*measured, strict=True)
    if constant < 1.0 and max(sizes) >= _FAR_APART * min(sizes):
        slope, offset = statistics.linear_regression(sizes, seconds)
        if slope >= 0.0 and offset >= 0.0:
            return offset + slope * voxels
    return statistics.median(each * (constant + (1.0 - constant) * voxels / size) for size, each in measured)


def _all_runs(path: Path) -> Sequence[PastRun]:
    try:
        return [PastRun(**values) for values in plain_json(read_bounded(path, _MOST_BYTES))]
    except (OSError, ValueError, TypeError):
        return ()


def _path() -> Path | None:
    folder = cache_root()
    return None if folder is None else folder / _FILE
