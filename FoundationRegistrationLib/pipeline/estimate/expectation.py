"""What a registration would take, without doing it: settings, working grid, memory, time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from ...runtime.progress import Progress
from ...settings import Settings
from ...spatial.checks import check_overlap, check_slices, check_volume
from ...spatial.grids import WorkingGrid
from ..deformation.region import limited_to
from ..deformation.working_grid import choose_grid, host_bytes, loaded_bytes
from ..driving import Driving
from ..given import GivenVolume
from ..initial_alignment.search import initial_alignment
from ..method import Method
from .history import expected_run, voxels_of

_AT_ONCE = ("none", "center", "moments")


@dataclass(frozen=True)
class Expectation:
    """What a registration would take.

    Attributes:
        settings: suited to the voxels of the volumes.
        device: where it would run.
        grid: the working grid, about; None for a rigid or affine run.
        memory_bytes: peak memory of the process, about.
        seconds: time, about; None if no earlier run tells it.
        runs: how many earlier runs tell it.
        messages: for the user.
    """

    settings: Settings
    device: str
    grid: WorkingGrid | None
    memory_bytes: float
    seconds: float | None
    runs: int
    messages: tuple[str, ...]


def expected(
    fixed: sitk.Image,
    moving: sitk.Image,
    settings: Settings,
    masks: Mapping[str, sitk.Image],
    region: sitk.Image | None = None,
    initial_transform: sitk.Transform | None = None,
    driving: Mapping[str, Any] | None = None,
) -> Expectation:
    """Check the inputs of a registration and estimate what it would take.

    Args:
        fixed: the fixed volume.
        moving: the moving volume.
        settings: as given.
        masks: masks and lesions by role, such as "fixed_mask".
        region: mask in fixed space of what is deformed.
        initial_transform: maps fixed to moving points, LPS mm. Without it an automatic alignment is not searched for:
            the centres of the patient in both volumes are aligned, which changes the working grid little.
        driving: structures and points that drive, by the names that `register` gives them.

    Raises:
        InputError: a volume, a mask, the region or what drives cannot be used, or there is not enough memory.
        SettingsError: an unknown encoder or an unavailable device.
        WeightsError: weights are missing or damaged.
    """
    method = Method.of(settings)
    alone = not method.settings.compares_intensities
    for role, image in (("fixed", fixed), ("moving", moving)):
        check_volume(image, role, any_content=alone)
        check_slices(image, role)
    said: list[str] = []
    named = driving or {}
    structures, points = (
        (named.get(f"fixed_{kind}"), named.get(f"moving_{kind}")) for kind in ("structures", "points")
    )
    driven = Driving.of(structures, points, (fixed, moving), said, alone=alone)
    method = method.suited_to(fixed.GetSpacing(), moving.GetSpacing())
    settings, device = method.settings, method.runtime.device
    images = {"fixed": fixed, "moving": moving, **masks}
    given = [GivenVolume.of(role, images, settings) for role in ("fixed", "moving")]
    prepared = given[0].prepared, given[1].prepared
    if region is not None:
        limited_to(region, prepared[0])
    messages = [*method.runtime.messages, *said, *prepared[0].messages, *prepared[1].messages]
    initial = initial_transform
    if initial is None:
        kind = settings.initialization if settings.initialization in _AT_ONCE else "moments"
        initial, _ = initial_alignment(*prepared, kind, device, Progress({}))
    check_overlap(fixed, moving, initial)
    grid = None
    if not settings.is_linear:
        grid, more = choose_grid(
            *prepared, initial, settings, method.infos, method.stages, device, region, len(driven.structures)
        )
        messages += more
    memory = max(
        host_bytes(grid, fixed, settings, method.infos, method.stages, len(driven.structures), loaded_bytes())
    )
    voxels = 0 if grid is None else math.prod(grid.shape)
    known = expected_run(settings, voxels_of(fixed.GetSize(), fixed.GetSpacing(), settings), voxels)
    seconds, runs = (None, 0) if known is None else (known.seconds, known.runs)
    return Expectation(settings, str(device), grid, memory, seconds, runs, tuple(messages))
