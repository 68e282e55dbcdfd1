"""`foundation-registration kinetics`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.interruption import Interruption
from .dicom import add_dicom_series_option
from .files import KINETICS
from .terminal import say

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..series.curves import LabelCurve
    from ..series.phases import Phases

_AS_ACQUIRED = (
    "These frames could not be registered to the others and are as acquired: {frames}. Maps and curves that use them "
    "show the motion."
)


def add_kinetics_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("series", type=Path, help="series whose motion is corrected, such as `series` writes")
    add_dicom_series_option(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the maps")
    parser.add_argument("--mask", type=Path, help="label map or segmentation: also write the curve of each label")
    parser.add_argument("--pre", type=int, default=1, help="number of frames before contrast (default 1)")
    parser.add_argument(
        "--early",
        type=float,
        metavar="S",
        help="take the frame nearest to S seconds after the last one before contrast as early (default: the last "
        "within two minutes)",
    )
    parser.add_argument("--late", type=float, metavar="S", help="the same for the late frame (default: the last one)")


def kinetics_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Write subtractions, projections, kinetic maps and curves of a dynamic series into a folder."""
    from ..files.outputs import staged_folder, write_json
    from ..io.volumes import write_volume_directly
    from ..pipeline.record import described_file
    from ..series.curves import write_curves
    from ..series.folders import frames_not_registered
    from ..series.kinetics import PLANES, before_contrast, kinetic_maps, maximum_intensity_projection, subtraction
    from ..series.nrrd import write_frames
    from ..series.phases import choose_phases
    from ..series.reading import read_series

    messages: list[str] = []
    series = read_series(arguments.series, messages, arguments.dicom_series)
    frames, times = series.frames, series.times_s
    phases = choose_phases(
        len(frames), times, arguments.pre, early_s=arguments.early, late_s=arguments.late, messages=messages
    )
    if failed := frames_not_registered(arguments.series):
        messages.append(_AS_ACQUIRED.format(frames=", ".join(map(str, failed))))
    maps = kinetic_maps(frames, phases)
    before = before_contrast(frames, phases)
    curves = _curves(arguments.mask, frames, phases, messages) if arguments.mask is not None else []
    with staged_folder(arguments.output, interruption, KINETICS) as staging:
        first, *others = (subtraction(frame, before) for frame in frames[len(phases.before) :])
        volumes = {"subtraction": first, "wash_in": maps.wash_in, "wash_out": maps.wash_out, "ser": maps.ser}
        volumes |= {f"mip_{plane}": maximum_intensity_projection(first, plane) for plane in PLANES}
        for name, image in volumes.items():
            if image is not None:
                write_volume_directly(image, staging / f"{name}.nrrd")
        after = None if times is None else times[len(phases.before) :]
        write_frames([first, *others], after, staging / "subtractions.seq.nrrd")
        if arguments.mask is not None:
            write_curves(staging / "curves.csv", curves, times)
        inputs = {"series": arguments.series, "mask": arguments.mask}
        record = {
            "inputs": {role: described_file(path) for role, path in inputs.items() if path is not None},
            "frames_before_contrast": phases.before,
            "early_frame": phases.early,
            "late_frame": phases.late,
            "times_s": times,
            "noise_floor": maps.noise_floor,
            "warnings": messages,
        }
        write_json(staging / "kinetics.json", record)
    say(messages)


def _curves(path: Path, frames: Sequence[sitk.Image], phases: Phases, messages: list[str]) -> list[LabelCurve]:
    """The curves of all structures, also of those that overlap."""
    from ..io.segmentation_files import read_segmentation
    from ..io.segmentations import check_marked
    from ..series.curves import label_curves

    segmentation = read_segmentation(path, "mask", messages).on_grid_of(frames[0], "mask", messages)
    check_marked(segmentation, "mask")
    curves = []
    for number, layer in enumerate(segmentation.layers):
        names = {segment.label: segment.name for segment in segmentation.segments if segment.layer == number}
        curves += label_curves(frames, layer, phases, names)
    return curves
