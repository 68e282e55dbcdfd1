"""What each command of the command line does, once its arguments are read."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from .encoders import encoder_info, encoders
from .errors import InputError
from .interruption import Interruption
from .memory import check_limits
from .outputs import staged_folder, write_json
from .progress import ProgressCallback
from .settings import Settings, read_settings_file

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
    values = {**from_file, **given}
    return Settings.from_preset(values.pop("preset", "default"), **values)


def register_command(arguments: argparse.Namespace, report: ProgressCallback, interruption: Interruption) -> None:
    """Register two files and write everything about it into a folder."""
    settings = settings_from(arguments)
    check_limits()  # before anything is read: libraries fail in any way where there is next to no memory
    inputs = _read_inputs(arguments)
    from .registration import register
    from .transforms import write_transform
    from .volumes import write_volume_directly

    with staged_folder(arguments.output) as staging:
        interruption.remove_on_exit(staging)
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
        content = {
            "metrics": result.metrics,
            "evaluation": evaluation,
            "messages": result.messages,
            "timings_seconds": result.timings,
            "peak_memory_bytes": result.peak_memory,
            **result.record,
        }
        write_json(staging / "report.json", content)
        _draw_overview(staging / "overview.png", inputs, result, evaluation)
    for line in (*result.messages, *_summary(result, evaluation)):
        print(line, file=sys.stderr)  # noqa: T201 - the answer of a command


def apply_command(arguments: argparse.Namespace) -> None:
    """Carry an image, a label map or points from one space to the other with a finished registration."""
    from .landmarks import Landmarks, read_points, write_points
    from .transforms import read_transform, transform_points, warp_image, warp_labels
    from .volumes import read_labels, read_volume, write_volume

    forward = arguments.direction == "forward"
    # Resampling looks up each target voxel in the source; points go from the source to the target.
    resampling = "transform.h5" if forward else "inverse.h5"
    point_mapping = "inverse.h5" if forward else "transform.h5"
    if arguments.points:
        landmarks = read_points(arguments.points)
        transform = read_transform(arguments.registration / point_mapping)
        write_points(arguments.output, Landmarks(landmarks.names, transform_points(transform, landmarks.points)))
        return
    if arguments.reference is None:
        msg = "Give --reference: the volume whose grid the result shall have (the fixed one going forward)."
        raise InputError(msg)
    transform = read_transform(arguments.registration / resampling)
    reference = read_volume(arguments.reference, "reference")
    if arguments.image:
        image = read_volume(arguments.image, "given")
        result = warp_image(image, reference, transform, arguments.interpolation)
    else:
        result = warp_labels(read_labels(arguments.labels, "given label map"), reference, transform)
    write_volume(result, arguments.output)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measure a finished registration with labels or landmarks."""
    from .transforms import read_transform

    inputs = _read_evaluation_inputs(arguments)
    transform = read_transform(arguments.registration / "transform.h5")
    evaluation = _evaluation(transform, inputs)
    if not evaluation:
        msg = "Give --fixed-labels and --moving-labels, or --fixed-landmarks and --moving-landmarks."
        raise InputError(msg)
    if arguments.output:
        write_json(arguments.output, evaluation)
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


def phantom_command(arguments: argparse.Namespace) -> None:
    """Write a synthetic breast pair with its exact ground truth into a folder."""
    from .landmarks import Landmarks, write_points
    from .phantom import make_phantom
    from .volumes import write_volume_directly

    case = make_phantom(arguments.task, arguments.seed, spacing_mm=arguments.spacing_mm)
    with staged_folder(arguments.output) as staging:
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
    fixed_labels: Any = None
    moving_labels: Any = None
    fixed_landmarks: Any = None
    moving_landmarks: Any = None
    initial_transform: Any = None


def _read_evaluation_inputs(arguments: argparse.Namespace) -> _Inputs:
    """Read labels and landmarks; either both sides are given or none."""
    from .landmarks import paired, read_points
    from .volumes import read_labels

    values: dict[str, Any] = {}
    for kind in ("labels", "landmarks"):
        paths = [getattr(arguments, f"{side}_{kind}") for side in ("fixed", "moving")]
        if (paths[0] is None) != (paths[1] is None):
            msg = f"Give both --fixed-{kind} and --moving-{kind}, or neither."
            raise InputError(msg)
        if paths[0] is None:
            continue
        if kind == "labels":
            pair = (read_labels(paths[0], "fixed label map"), read_labels(paths[1], "moving label map"))
        else:
            pair = paired(read_points(paths[0]), read_points(paths[1]))
        values[f"fixed_{kind}"], values[f"moving_{kind}"] = pair
    return _Inputs(**values)


def _read_inputs(arguments: argparse.Namespace) -> _Inputs:
    """Read all files of a registration and check that they belong together."""
    from .evaluation import check_label_maps
    from .geometry import check_volume
    from .volumes import read_labels, read_volume

    fixed, moving = read_volume(arguments.fixed, "fixed"), read_volume(arguments.moving, "moving")
    check_volume(fixed, "fixed")
    check_volume(moving, "moving")
    masks = {
        f"{side}_{kind}": read_labels(path, f"{side} {kind}")
        for side in ("fixed", "moving")
        for kind in ("mask", "lesion")
        if (path := getattr(arguments, f"{side}_{kind}"))
    }
    inputs = dataclasses.replace(_read_evaluation_inputs(arguments), fixed=fixed, moving=moving, **masks)
    if inputs.fixed_labels is not None:
        check_label_maps(inputs.fixed_labels, inputs.moving_labels, fixed, moving)
    return dataclasses.replace(inputs, initial_transform=_initial_transform(arguments, inputs))


def _initial_transform(arguments: argparse.Namespace, inputs: _Inputs) -> Any:
    from .alignment import landmark_alignment
    from .transforms import read_transform

    if arguments.initial_transform is not None:
        return read_transform(arguments.initial_transform)
    if arguments.initialization == "landmarks":
        if inputs.fixed_landmarks is None:
            msg = "Alignment by landmarks needs --fixed-landmarks and --moving-landmarks."
            raise InputError(msg)
        return landmark_alignment(inputs.fixed_landmarks.points, inputs.moving_landmarks.points)
    return None


def _evaluation(transform: Any, inputs: _Inputs) -> dict[str, Any]:
    from .evaluation import evaluate_label_maps, evaluate_landmarks

    evaluation: dict[str, Any] = {}
    if inputs.fixed_labels is not None:
        evaluation["labels"] = evaluate_label_maps(transform, inputs.fixed_labels, inputs.moving_labels)
    if inputs.fixed_landmarks is not None:
        evaluation["landmarks"] = evaluate_landmarks(
            transform, inputs.fixed_landmarks.points, inputs.moving_landmarks.points
        )
    return evaluation


def _draw_overview(path: Path, inputs: _Inputs, result: Any, evaluation: dict[str, Any]) -> None:
    import SimpleITK as sitk

    from .convex_adam.confidence import NOT_KNOWN_MM
    from .report import save_overview
    from .transforms import warp_image, warp_labels

    identity = sitk.TranslationTransform(3)
    labels: dict[str, Any] = {}
    if inputs.fixed_labels is not None:
        labels = {
            "fixed_labels": inputs.fixed_labels,
            "labels_before": warp_labels(inputs.moving_labels, inputs.fixed, identity),
            "labels_after": warp_labels(inputs.moving_labels, inputs.fixed, result.transform),
        }
    save_overview(
        path,
        inputs.fixed,
        warp_image(inputs.moving, inputs.fixed, identity),
        result.warped,
        sitk.Resample(result.displacement, inputs.fixed, identity, sitk.sitkLinear, 0.0),
        sitk.Resample(result.jacobian, inputs.fixed, identity, sitk.sitkLinear, 1.0),
        title=f"Registration with {result.record['settings']['encoder']}",
        lines=_summary(result, evaluation),
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
