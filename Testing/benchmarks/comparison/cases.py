"""The list of all cases, with those that cannot be made here and what to do about it."""

from __future__ import annotations

import functools
from pathlib import Path

from . import brains, breasts
from .case import CaseSource
from .phantoms import phantom_sources

COLIN = Path("/usr/share/mricron/templates")


def case_sources(data: Path, peers: Path, seeds: tuple[int, ...], spacing_mm: float) -> list[CaseSource]:
    """Return all cases in the order of the tables.

    Args:
        data: folder of the real volumes.
        peers: folder that `make benchmark` installs other packages into.
        seeds: of the phantoms.
        spacing_mm: voxel size of the phantoms.
    """
    mni = peers / "nilearn" / "datasets" / "data"
    named = [
        ("brain-two-subjects", "brain, two subjects", brains.two_subjects, (data / "brain_intersubject",)),
        ("brain-mni152-colin27", "brain, MNI152 and Colin27", brains.averages, (mni, COLIN)),
        (
            "ms-flair-to-flair",
            "MS follow-up, FLAIR to FLAIR",
            functools.partial(brains.follow_up, sequence="FLAIR"),
            (data / "ms_longitudinal",),
        ),
        (
            "ms-flair-to-t1w",
            "MS follow-up, FLAIR to T1W",
            functools.partial(brains.follow_up, sequence="T1W"),
            (data / "ms_longitudinal",),
        ),
        ("breast-patch", "breast MR patch, known warp", breasts.patch, (data / "breast_mr_patch",)),
        ("breast-victre", "VICTRE breast, known warp", breasts.victre, (data / "breast_phantom_victre",)),
        ("breast-contrast", "breast DCE slice, known warp", breasts.contrast_series, (data / "breast_dce_2d",)),
    ]
    real = [
        CaseSource(
            name,
            group,
            functools.partial(build, *folders),
            has_lesion=build is breasts.patch,
            missing=_missing(folders),
        )
        for name, group, build, folders in named
    ]
    return phantom_sources(seeds, spacing_mm) + real


def _missing(folders: tuple[Path, ...]) -> str:
    """Say which folder of a case is absent and how to get it; nothing if all are there."""
    absent = [folder for folder in folders if not folder.is_dir()]
    if not absent:
        return ""
    if absent[0] == COLIN:
        how = "install Debian's package mricron-data"
    elif absent[0].name == "data":
        how = "run `make benchmark`, which installs nilearn"
    else:
        how = "give the folder of the real volumes with --data"
    return f"{absent[0]} is absent; {how}"
