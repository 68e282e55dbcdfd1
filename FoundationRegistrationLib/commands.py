"""What each command of the command line does, once its arguments are read."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .encoders import encoder_info, encoders
from .errors import InputError, OutputError, SettingsError
from .files_of_a_command import PHANTOM, RESULTS
from .interruption import Interruption
from .memory import check_limits, check_loading
from .outputs import staged_folder, write_json
from .progress import Note, ProgressCallback
from .settings import Settings, read_settings_file

if TYPE_CHECKING:
    from .io.segmentations import PairedLabels
    from .record import RecordedRun

# Lesions in the summary of a run; the report has all of them.
_MOST_LESION_LINES = 5


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the settings of a command line: preset, then settings file, then options, later ones winning."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Settings)
        if getattr(arguments, field.name, None) is not None
    }
    if given.get("initialization") == "landmarks":
        given["initialization"] = "none"
    from_file = read_settings_file(arguments.settings) if arguments.settings else {}
    if "preset" in from_file and given.get("preset", from_file["preset"]) != from_file["preset"]:
        msg = f"'{arguments.settings}' is of another preset than --preset {given['preset']}; give one of the two."
        raise SettingsError(msg)
    values = {**from_file, **given}
    return Settings.from_preset(values.pop("preset", "default"), **values)


def register_command(arguments: argparse.Namespace, report: ProgressCallback, interruption: Interruption) -> None:
    """Register two files and write everything about it into a folder."""
    settings = settings_from(arguments)
    check_limits()  # before anything is read: libraries fail in any way where there is next to no memory
    check_loading()
    from .record import read_recorded_run
    from .registration import register

    recorded = read_recorded_run(arguments.settings) if arguments.settings else None
    of_volumes: list[str] = []
    notes: list[str] = []
    inputs = _read_inputs(arguments, recorded, of_volumes, notes)
    from .io.volumes import write_volume_directly
    from .transforms import write_transform

    with staged_folder(arguments.output, interruption, RESULTS) as staging:
        result = register(
            inputs.fixed,
            inputs.moving,
            settings,
            fixed_mask=inputs.fixed_mask,
            moving_mask=inputs.moving_mask,
            fixed_lesion=inputs.fixed_lesion,
            moving_lesion=inputs.moving_lesion,
            initial_transform=inputs.initial_transform,
            preview_features=arguments.feature_preview,
            progress=report,
            cancelled=interruption.requested,
        )
        write_transform(result.transform, staging / "transform.h5")
        write_transform(result.inverse, staging / "inverse.h5")
        write_volume_directly(result.warped, staging / "warped.nii.gz")
        if arguments.maps:
            write_volume_directly(result.jacobian, staging / "jacobian.nii.gz")
            write_volume_directly(result.confidence, staging / "confidence.nii.gz")
        if result.feature_preview is not None:
            for role, preview in zip(("fixed", "moving"), result.feature_preview, strict=True):
                write_volume_directly(preview, staging / f"features_{role}.nii.gz")
        evaluation = _evaluation(result.transform, inputs)
        record = {**result.record, "inputs": inputs.described, "start": _kept_start(result, inputs, staging)}
        notes += recorded.differences(record) if recorded else []
        messages = [*of_volumes, *result.messages, *notes]  # the most alarming first
        content = {
            "metrics": result.metrics,
            "evaluation": evaluation,
            "messages": messages,
            "timings_seconds": result.timings,
            "peak_memory_bytes": result.peak_memory,
            **record,
        }
        write_json(staging / "report.json", content)
        _draw_overview(staging / "overview.png", inputs, result, messages, evaluation)
    _say((*messages, *_summary(result, evaluation)))


def apply_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Carry an image, a label map or points from one space to the other with a finished registration."""
    from .transforms import read_transform

    forward = arguments.direction == "forward"
    # Resampling looks up each target voxel in the source; points go from the source to the target.
    resampling, of_points = ("transform.h5", "inverse.h5") if forward else ("inverse.h5", "transform.h5")
    messages: list[str] = []
    if arguments.points:
        transform = read_transform(arguments.registration / of_points)
        _apply_to_points(arguments, transform, messages, interruption)
    else:
        _check_apply_to_volume(arguments)
        transform = read_transform(arguments.registration / resampling)
        if arguments.image:
            _apply_to_image(arguments, transform, messages, interruption)
        else:
            inverse = read_transform(arguments.registration / of_points)
            _apply_to_labels(arguments, transform, inverse, messages, interruption)
    _say(messages)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - the answer of a command


def _check_apply_to_volume(arguments: argparse.Namespace) -> None:
    from .io.volumes import check_volume_name

    if arguments.reference is None:
        msg = "Give --reference: the volume whose grid the result shall have (the fixed one going forward)."
        raise InputError(msg)
    check_volume_name(arguments.output)


def _apply_to_points(
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: Interruption
) -> None:
    from .geometry import transform_points
    from .landmarks import Landmarks, read_points, write_points

    landmarks = read_points(arguments.points)
    left_out = landmarks.placed.count(False)
    if left_out:
        messages.append(f"Entries without a position are left out: {left_out}.")
    mapped = Landmarks(landmarks.names, transform_points(transform, landmarks.points))
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_points(staging / arguments.output.name, mapped)


def _apply_to_image(
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: Interruption
) -> None:
    from .carrying import carry_image
    from .io.volumes import read_volume, write_volume_directly

    reference = read_volume(arguments.reference, "reference", messages)
    image = read_volume(arguments.image, "given", messages)
    if "complex" in image.GetPixelIDTypeAsString() and arguments.output.suffix.lower() in (".mha", ".mhd"):
        msg = f"'{arguments.output.name}' cannot keep complex numbers; end its name with .nii.gz or .nrrd."
        raise OutputError(msg)
    result = carry_image(image, reference, transform, arguments.interpolation, messages)
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_volume_directly(result, staging / arguments.output.name)


def _apply_to_labels(
    arguments: argparse.Namespace, transform: Any, inverse: Any, messages: list[str], interruption: Interruption
) -> None:
    from .carrying import carry_segmentation
    from .io.segmentations import check_can_hold, read_segmentation, write_segmentation_directly
    from .io.volumes import read_volume

    reference = read_volume(arguments.reference, "reference", messages)
    labels = read_segmentation(arguments.labels, "given label map", messages)
    check_can_hold(arguments.output, labels, messages)
    carried = carry_segmentation(labels, reference, transform, inverse, messages)
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_segmentation_directly(carried, staging / arguments.output.name)


def evaluate_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Measure a finished registration with labels or landmarks."""
    from .record import recorded_grids
    from .transforms import read_transform

    messages: list[str] = []
    grids = recorded_grids(arguments.registration / "report.json")
    inputs = _read_evaluation_inputs(arguments, messages, grids)
    transform = read_transform(arguments.registration / "transform.h5")
    evaluation = _evaluation(transform, inputs)
    if not evaluation:
        msg = "Give --fixed-labels and --moving-labels, or --fixed-landmarks and --moving-landmarks."
        raise InputError(msg)
    if arguments.output:
        with staged_folder(arguments.output.parent, interruption) as staging:
            write_json(staging / arguments.output.name, evaluation)
    _say(messages)
    print(json.dumps(evaluation, indent=2))  # noqa: T201 - the answer of a command


def encoders_command(arguments: argparse.Namespace) -> None:
    """List the encoders, for people, programs or the README, and measure them on this machine if asked to."""
    from .encoder_list import encoder_facts, encoder_table, encoder_text, families_text
    from .encoder_measuring import measure

    named = [encoder_info(name) for name in arguments.measure or ()]
    listed = named or list(encoders().values())
    measured = {}
    for info in listed if arguments.measure is not None else ():
        sys.stderr.write(f"Measuring {info.name} ...\n")
        measured[info.name] = measure(info.name, Settings(device=arguments.device))
    if arguments.json:
        figures = {name: dataclasses.asdict(value) if value else None for name, value in measured.items()}
        rows = [{**encoder_facts(info), **({"measured": figures[info.name]} if figures else {})} for info in listed]
        text = json.dumps(rows, indent=2)
    elif arguments.markdown:
        text = encoder_table(measured or None)
    else:
        text = "\n".join([*(encoder_text(info, measured) for info in listed), *(() if named else (families_text(),))])
    print(text)  # noqa: T201 - the answer of a command


def phantom_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Write a synthetic breast pair with its exact ground truth into a folder."""
    from .io.volumes import write_volume_directly
    from .landmarks import Landmarks, write_points
    from .phantom import make_phantom

    case = make_phantom(arguments.task, arguments.seed, spacing_mm=arguments.spacing_mm)
    with staged_folder(arguments.output, interruption, PHANTOM) as staging:
        volumes = {
            "fixed": case.fixed,
            "moving": case.moving,
            "fixed_labels": case.labelmap("fixed"),
            "moving_labels": case.labelmap("moving"),
            "displacement": case.displacement,
        }
        if case.pet is not None:
            volumes["pet"] = case.pet
        for name, image in volumes.items():
            write_volume_directly(image, staging / f"{name}.nii.gz")
        names = tuple(f"L{index + 1}" for index in range(len(case.fixed_landmarks)))
        write_points(staging / "fixed_landmarks.mrk.json", Landmarks(names, case.fixed_landmarks))
        write_points(staging / "moving_landmarks.mrk.json", Landmarks(names, case.moving_landmarks))


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What was read from the files of a command line; images are SimpleITK images, None where not given."""

    fixed: Any = None
    moving: Any = None
    fixed_mask: Any = None
    moving_mask: Any = None
    fixed_lesion: Any = None
    moving_lesion: Any = None
    labels: PairedLabels | None = None
    fixed_landmarks: Any = None
    moving_landmarks: Any = None
    initial_transform: Any = None
    start_kind: str = ""
    described: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


def _read_evaluation_inputs(
    arguments: argparse.Namespace, messages: list[str], grids: Mapping[str, Any], *, must_match: bool = False
) -> _Inputs:
    """Read labels and landmarks; either both sides are given or none.

    Args:
        arguments: names the files.
        messages: take what the user must know of them.
        grids: by side, an image on the grid of the volume, where it is known.
        must_match: whether a label map on another grid than its volume is an error.
    """
    from .evaluation import check_label_maps
    from .io.segmentations import check_marked, paired_labels, read_segmentation
    from .landmarks import paired, read_points

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
                    "Structures are compared within the voxels that the fixed label map's file holds; what reaches "
                    "beyond them does not count."
                )
            values["labels"] = paired_labels(whole["fixed"], whole["moving"], messages)
        else:
            pair = paired(*(read_points(path) for path in paths.values()))
            values["fixed_landmarks"], values["moving_landmarks"] = pair
    return _Inputs(**values)


def _read_inputs(
    arguments: argparse.Namespace, recorded: RecordedRun | None, of_volumes: list[str], notes: list[str]
) -> _Inputs:
    """Read all files of a registration and check that they belong together.

    Args:
        arguments: names the files.
        recorded: the run that this one repeats, if it does.
        of_volumes: take what the user must know of the two volumes.
        notes: take what the user must know of the other files.
    """
    from .geometry import check_volume
    from .io.segmentations import read_segmentation
    from .io.volumes import read_volume
    from .record import INPUT_ROLES, described_file

    volumes = {side: read_volume(getattr(arguments, side), side, of_volumes) for side in ("fixed", "moving")}
    for side, volume in volumes.items():
        check_volume(volume, side)
    masks = {}
    for side, volume in volumes.items():
        for kind in ("mask", "lesion"):
            path, role = getattr(arguments, f"{side}_{kind}"), f"{side} {kind}"
            if path is not None:
                labels = read_segmentation(path, role, notes).on_grid_of(volume, role, notes)
                masks[f"{side}_{kind}"] = labels.label_map()
    inputs = dataclasses.replace(
        _read_evaluation_inputs(arguments, notes, volumes, must_match=True), **volumes, **masks
    )
    start_kind, start = _start(arguments, inputs, recorded)
    files = {role: getattr(arguments, role, None) for role in INPUT_ROLES}
    described = {
        role: described_file(path, {**volumes, **masks}.get(role)) for role, path in files.items() if path is not None
    }
    return dataclasses.replace(inputs, initial_transform=start, start_kind=start_kind, described=described)


def _start(arguments: argparse.Namespace, inputs: _Inputs, recorded: RecordedRun | None) -> tuple[str, Any]:
    """Return where the run starts, in a word, and the transform if it is given; None if it is to be found."""
    from .alignment import landmark_alignment
    from .transforms import read_transform

    if arguments.initial_transform is not None:
        return "given transform", read_transform(arguments.initial_transform)
    if arguments.initialization == "landmarks":
        if inputs.fixed_landmarks is None:
            msg = "Alignment by landmarks needs --fixed-landmarks and --moving-landmarks."
            raise InputError(msg)
        return "landmarks", landmark_alignment(inputs.fixed_landmarks.points, inputs.moving_landmarks.points)
    if recorded is not None and recorded.has_given_start and arguments.initialization is None:
        return recorded.start_kind, read_transform(recorded.start_file())
    return "", None


def _kept_start(result: Any, inputs: _Inputs, staging: Path) -> dict[str, Any]:
    """Keep the transform that the run started from beside its results; return what the record says of it."""
    from .record import START_FILE, file_sha256
    from .transforms import write_transform

    file = staging / START_FILE
    write_transform(result.initial_transform, file)
    kind = inputs.start_kind or result.record["settings"]["initialization"]
    return {"kind": kind, "file": file.name, "sha256": file_sha256(file), **result.record["start"]}


def _evaluation(transform: Any, inputs: _Inputs) -> dict[str, Any]:
    from .evaluation import evaluate_landmarks, evaluate_paired_labels

    evaluation: dict[str, Any] = {}
    if inputs.labels is not None:
        evaluation["labels"] = evaluate_paired_labels(transform, inputs.labels)
    if inputs.fixed_landmarks is not None:
        evaluation["landmarks"] = evaluate_landmarks(
            transform, inputs.fixed_landmarks.points, inputs.moving_landmarks.points
        )
    return evaluation


def _draw_overview(path: Path, inputs: _Inputs, result: Any, messages: list[str], evaluation: dict[str, Any]) -> None:
    import SimpleITK as sitk

    from .convex_adam.confidence import NOT_KNOWN_MM
    from .report import save_overview
    from .transforms import displacement_on_grid_of, warp_image, warp_labels

    identity = sitk.TranslationTransform(3)
    labels: dict[str, Any] = {}
    if inputs.labels is not None:
        fixed_labels, moving_labels = inputs.labels.drawn
        labels = {
            "fixed_labels": fixed_labels,
            "labels_before": warp_labels(moving_labels, inputs.fixed, identity),
            "labels_after": warp_labels(moving_labels, inputs.fixed, result.transform),
        }
    save_overview(
        path,
        inputs.fixed,
        warp_image(inputs.moving, inputs.fixed, identity),
        result.warped,
        displacement_on_grid_of(inputs.fixed, result.transform),
        sitk.Resample(result.jacobian, inputs.fixed, identity, sitk.sitkLinear, useNearestNeighborExtrapolator=True),
        title=f"Registration with {result.record['settings']['encoder']}",
        warnings=[message for message in messages if not isinstance(message, Note)],
        lines=[*_summary(result, evaluation), *(message for message in messages if isinstance(message, Note))],
        expected_error=sitk.Resample(
            result.confidence, inputs.fixed, identity, sitk.sitkNearestNeighbor, NOT_KNOWN_MM
        ),
        **labels,
    )


def _summary(result: Any, evaluation: dict[str, Any]) -> list[str]:
    """Return the key figures, a line each."""
    jacobian, inverse = result.metrics["jacobian"], result.metrics["inverse_error_mm"]
    expected = result.metrics["expected_error"]
    lines = [
        f"folded: {jacobian['folded_percent']:.3f} % of the anatomy; SD of log Jacobian {jacobian['sd_log']:.3f}",
        f"forward then inverse: {inverse['mean']:.3f} mm mean, {inverse['max']:.2f} mm max",
        f"expected error: {expected['median_mm']:.1f} mm median, 95 % below {expected['percentile_95_mm']:.1f} mm",
        f"expected error above 5 mm in {expected['above_5_mm_percent']:.1f} % of the anatomy, "
        f"not known in {expected['not_known_percent']:.1f} %",
        f"time: {sum(result.timings.values()):.0f} s on {result.record['device']}",
    ]
    lines += [
        f"{lesion['side']} lesion {lesion['label']}.{lesion['number']}: {lesion['before_mm3']:.0f} mm³ before, "
        f"{lesion['after_mm3']:.0f} mm³ after ({lesion['percent']:+.1f} %)"
        for lesion in result.metrics["lesion_volume_change_percent"][:_MOST_LESION_LINES]
    ]
    if "labels" in evaluation:
        dice = evaluation["labels"]
        if dice["mean_dice_after"] is not None:
            lines.append(f"mean Dice: {dice['mean_dice_before']:.3f} before, {dice['mean_dice_after']:.3f} after")
    if "landmarks" in evaluation:
        tre = evaluation["landmarks"]
        lines.append(
            f"TRE: {tre['tre_mm_before']['mean']:.2f} mm before, {tre['tre_mm_after']['mean']:.2f} mm after "
            f"({tre['count']} landmarks)"
        )
    return lines
