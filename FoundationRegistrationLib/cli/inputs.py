"""Reading the input files of a command and checking their consistency."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..settings import STRUCTURES_ONLY, Settings
from .driving import read_driving

if TYPE_CHECKING:
    from ..io.landmarks import Landmarks
    from ..io.paired_labels import PairedLabels
    from ..pipeline.record import RecordedRun


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of a command; images are SimpleITK images, None if not given."""

    fixed: Any = None
    moving: Any = None
    fixed_mask: Any = None
    moving_mask: Any = None
    fixed_lesion: Any = None
    moving_lesion: Any = None
    region: Any = None
    driving: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: PairedLabels | None = None
    landmarks: tuple[Landmarks, Landmarks] | None = None
    initial_transform: Any = None
    start_kind: str = ""
    described: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def masks(self) -> dict[str, Any]:
        """Return the masks and lesions that were given, by role."""
        roles = ("fixed_mask", "moving_mask", "fixed_lesion", "moving_lesion")
        return {role: mask for role in roles if (mask := getattr(self, role)) is not None}


def read_evaluation_inputs(
    arguments: argparse.Namespace, messages: list[str], grids: Mapping[str, Any], *, must_match: bool = False
) -> Inputs:
    """Read labels and landmarks, of both sides or neither.

    Args:
        arguments: of the command line.
        messages: warnings are appended.
        grids: by side, an image on the grid of the volume, if known.
        must_match: whether a label map on another grid than its volume is an error.
    """
    from ..evaluation.accuracy import check_label_maps
    from ..io.landmark_files import read_points
    from ..io.landmarks import paired
    from ..io.paired_labels import paired_labels
    from ..io.segmentation_files import read_segmentation
    from ..io.segmentations import check_marked

    values: dict[str, Any] = {}
    for kind in ("labels", "landmarks"):
        paths = {side: getattr(arguments, f"{side}_{kind}") for side in ("fixed", "moving")}
        if (paths["fixed"] is None) != (paths["moving"] is None):
            msg = f"Give both --fixed-{kind} and --moving-{kind}, or neither."
            raise InputError(msg)
        if paths["fixed"] is None:
            continue
        if kind == "labels":
            maps = {side: read_segmentation(path, f"{side} label map", messages) for side, path in paths.items()}
            for side, labels in maps.items():
                check_marked(labels, f"{side} label map")
            whole = {
                side: labels.on_grid_of(grids[side], f"{side} label map", messages) if side in grids else labels
                for side, labels in maps.items()
            }
            if must_match:
                flat = {side: labels.label_map() for side, labels in whole.items()}
                check_label_maps(flat["fixed"], flat["moving"], grids["fixed"], grids["moving"])
            elif maps["fixed"].segments and whole["fixed"] is maps["fixed"]:
                messages.append(
                    "Structures are compared only within the grid of the fixed label map's file; parts outside it "
                    "do not count."
                )
            values["labels"] = paired_labels(whole["fixed"], whole["moving"], messages)
        else:
            values["landmarks"] = paired(read_points(paths["fixed"]), read_points(paths["moving"]), messages)
    return Inputs(**values)


def read_inputs(
    arguments: argparse.Namespace,
    settings: Settings,
    recorded: RecordedRun | None,
    of_volumes: list[str],
    notes: list[str],
) -> Inputs:
    """Read all files of a registration and check their consistency.

    Args:
        arguments: of the command line.
        settings: of the run.
        recorded: the run to repeat, if any.
        of_volumes: warnings about the two volumes are appended.
        notes: warnings about the other files are appended.
    """
    from ..io.dicom import series_uids
    from ..io.regions import read_region
    from ..io.segmentation_files import read_segmentation
    from ..io.volumes import read_volume
    from ..pipeline.record import INPUT_ROLES, described_file
    from ..spatial.checks import check_volume

    notes += _same_files(arguments)
    volumes = {
        side: read_volume(getattr(arguments, side), side, of_volumes, getattr(arguments, f"{side}_series"))
        for side in ("fixed", "moving")
    }
    for side, volume in volumes.items():
        check_volume(volume, side, any_content=settings.encoder == STRUCTURES_ONLY)
    masks = {}
    for side, volume in volumes.items():
        for kind in ("mask", "lesion"):
            path, role = getattr(arguments, f"{side}_{kind}"), f"{side} {kind}"
            if path is not None:
                labels = read_segmentation(path, role, notes).on_grid_of(volume, role, notes)
                masks[f"{side}_{kind}"] = labels.label_map()
    region = None if arguments.region is None else read_region(arguments.region, notes)
    inputs = dataclasses.replace(
        read_evaluation_inputs(arguments, notes, volumes, must_match=True),
        **volumes,
        **masks,
        region=region,
        driving=read_driving(arguments, volumes, notes),
    )
    start_kind, start = _start(arguments, inputs, recorded)
    files = {role: getattr(arguments, role, None) for role in INPUT_ROLES}
    described = {role: described_file(path) for role, path in files.items() if path is not None}
    for side in volumes:
        described[side] |= series_uids(getattr(arguments, side), getattr(arguments, f"{side}_series"))
        if getattr(arguments, f"{side}_series") is not None:
            described[side]["series"] = getattr(arguments, f"{side}_series")
    return dataclasses.replace(inputs, initial_transform=start, start_kind=start_kind, described=described)


def _same_files(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield a warning for each input of which both sides are the same file."""
    from ..files.digest import is_same_file

    for kind in ("", "_mask", "_lesion", "_labels", "_landmarks", "_structures", "_points"):
        fixed, moving = (getattr(arguments, f"{side}{kind}") for side in ("fixed", "moving"))
        is_chosen = not kind and arguments.fixed_series != arguments.moving_series
        if fixed is not None and moving is not None and not is_chosen and is_same_file(fixed, moving):
            yield f"Fixed and moving {kind[1:] or 'volume'} are the same file '{fixed}'; check that this is meant."


def _start(arguments: argparse.Namespace, inputs: Inputs, recorded: RecordedRun | None) -> tuple[str, Any]:
    """Return the kind of initial alignment, and the transform if it is given, else None."""
    from ..io.nifti import has_niftis_name
    from ..io.transforms import read_transform
    from ..pipeline.initial_alignment.given_transform import landmark_alignment

    if arguments.initial_transform is not None:
        stored = inputs.moving if has_niftis_name(arguments.moving) else None
        return "given transform", read_transform(arguments.initial_transform, stored)
    if arguments.initialization == "landmarks":
        if inputs.landmarks is None:
            msg = "Alignment by landmarks needs --fixed-landmarks and --moving-landmarks."
            raise InputError(msg)
        return "landmarks", landmark_alignment(*(landmarks.points for landmarks in inputs.landmarks))
    if recorded is not None and recorded.has_given_start and arguments.initialization is None:
        return recorded.start_kind, read_transform(recorded.start_file())
    return "", None
