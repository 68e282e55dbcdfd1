"""Output files of a registration, the same from the command line and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..errors import InputError
from ..evaluation.accuracy import check_label_maps, evaluate
from ..files.digest import file_sha256
from ..files.outputs import write_json
from ..io.arrays import VolumeLike, as_volume
from ..io.landmarks import Landmarks, as_landmarks, paired
from ..io.paired_labels import PairedLabels, paired_labels
from ..io.segmentations import Segmentation, check_marked
from ..io.transforms import write_transform
from ..io.volumes import whole_numbers, write_volume_directly
from .overview import draw_overview
from .record import START_FILE

if TYPE_CHECKING:
    from .result import RegistrationResult


def write_results(
    staging: Path,
    result: RegistrationResult,
    *,
    labels: PairedLabels | None = None,
    landmarks: tuple[Landmarks, Landmarks] | None = None,
    maps: bool = False,
    warped: sitk.Image | None = None,
) -> dict[str, Any]:
    """Write all files of a registration into a staging folder.

    Args:
        staging: see `staged_folder`.
        result: the registration.
        labels: structures of both sides, to measure Dice.
        landmarks: corresponding points of both sides, to measure the TRE.
        maps: also write the Jacobian and the expected error, if known.
        warped: the moving volume on another grid than the fixed one, to write instead.

    Returns:
        The evaluation by labels and landmarks, as in the report.

    Raises:
        OutputError: a file cannot be written.
    """
    write_transform(result.transform, staging / "transform.h5")
    write_transform(result.inverse, staging / "inverse.h5")
    write_transform(result.initial_transform, staging / START_FILE)
    write_volume_directly(result.warped if warped is None else warped, staging / "warped.nii.gz")
    if maps:
        write_volume_directly(result.jacobian, staging / "jacobian.nii.gz")
        if result.expected_error is not None:
            write_volume_directly(result.expected_error, staging / "expected_error_mm.nrrd")
    if result.feature_preview is not None:
        for role, preview in zip(("fixed", "moving"), result.feature_preview, strict=True):
            write_volume_directly(preview, staging / f"features_{role}.nii.gz")
    evaluation = evaluate(result.transform, labels, landmarks, result.record.get("driving"))
    start = {"file": START_FILE, "sha256": file_sha256(staging / START_FILE), **result.record["start"]}
    content = {
        "verdict": result.verdict.to_dict(),
        "metrics": result.metrics,
        "evaluation": evaluation,
        "messages": result.messages,
        "timings_seconds": result.timings,
        "peak_memory_bytes": result.peak_memory,
        **result.record,
        "start": start,
    }
    write_json(staging / "report.json", content)
    draw_overview(staging / "overview.png", result, labels, evaluation)
    return evaluation


def labels_of(result: RegistrationResult, fixed: VolumeLike | None, moving: VolumeLike | None) -> PairedLabels | None:
    """Return label maps of both volumes as structures paired by value; None if none are given.

    Raises:
        InputError: only one is given, or one is empty, holds fractions, or is not on the grid of its volume.
    """
    if not _both(fixed, moving, "labels"):
        return None
    maps = {
        side: whole_numbers(as_volume(given, f"{side} label map"), f"The {side} label map")
        for side, given in (("fixed", fixed), ("moving", moving))
        if given is not None
    }
    check_label_maps(maps["fixed"], maps["moving"], result.fixed, result.moving)
    sides = {side: Segmentation((labels,)) for side, labels in maps.items()}
    for side, segmentation in sides.items():
        check_marked(segmentation, f"{side} label map")
    return paired_labels(sides["fixed"], sides["moving"], [])


def landmarks_of(fixed: Any, moving: Any) -> tuple[Landmarks, Landmarks] | None:
    """Return landmarks, or arrays (N, 3) in LPS mm, of both volumes as pairs; None if none are given.

    Raises:
        InputError: only one is given, or they cannot be paired.
    """
    if not _both(fixed, moving, "landmarks"):
        return None
    return paired(as_landmarks(fixed), as_landmarks(moving))


def _both(fixed: Any, moving: Any, what: str) -> bool:
    """Whether both are given; raises if only one is."""
    if (fixed is None) != (moving is None):
        msg = f"Give both fixed_{what} and moving_{what}, or neither."
        raise InputError(msg)
    return fixed is not None
