"""Texts of the panel about presets, encoders, weights and the time and memory of a run."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from FoundationRegistrationBridge.time_to_go import STARTING
from slicer.i18n import tr as _

from FoundationRegistrationLib.cli import encoder_list
from FoundationRegistrationLib.encoders import encoder_info, encoders
from FoundationRegistrationLib.settings import PRESETS, Settings

from .tasks import TASKS

_PRESET_TITLES = {"pet-ct-to-mri": "PET/CT to MRI", "dce": "Contrast series", "convexadam": "ConvexAdam"}
_RUNS_KEPT = 50
_RUNS_KEY = "FoundationRegistration/Runs"


def preset_title(preset: str) -> str:
    """Return a preset's display name: `pet-ct-to-mri` is "PET/CT to MRI", `cross-sequence` "Cross sequence"."""
    return _PRESET_TITLES.get(preset, _sentence(preset.replace("-", " ")))


def encoder_title(name: str) -> str:
    """Return the display name of an encoder."""
    return encoder_info(name).title


def choice_titles(parameter: str) -> dict[str, str]:
    """Return the display names of the values of a parameter that is a choice; empty if they stand as they are."""
    titles = {
        "initialization": {
            "none": _("None"),
            "center": _("Centre of the images"),
            "moments": _("Centre of mass"),
            "rigid": _("Rigid"),
            "affine": _("Affine"),
        },
        "stages": {"rigid": _("Rigid"), "affine": _("Affine"), "deformable": _("Deformable")},
        "followDirection": {"moving to fixed": _("Moving to fixed"), "fixed to moving": _("Fixed to moving")},
        "followMode": {"resample": _("Resample"), "attach": _("Attach transform")},
        "encoder": {name: info.title for name, info in encoders().items()},
        "detail_encoder": {"": _("None"), **{name: info.title for name, info in encoders().items()}},
        "preset": {name: preset_title(name) for name in PRESETS},
        "task": {name: _(task.title) for name, task in TASKS.items()},
    }
    return titles.get(parameter, {})


def preset_line(preset: str, changed: Mapping[str, Any]) -> str:
    """Return the purpose of a preset, and which of its settings were changed."""
    purpose = PRESETS[preset].purpose
    line = purpose[0].upper() + purpose[1:] + "."
    if changed:
        names = ", ".join(setting_title(name) for name in changed)
        line += " " + _("Changed: {names}.").format(names=names)
    return line


def setting_title(name: str) -> str:
    """Return a setting's display name: `working_spacing_mm` is "Working spacing (mm)"."""
    stem, _underscore, unit = name.rpartition("_")
    units = {"mm": "mm", "gb": "GB"}
    text = f"{stem.replace('_', ' ')} ({units[unit]})" if unit in units else name.replace("_", " ")
    return text[0].upper() + text[1:]


def encoder_line(names: Sequence[str]) -> str:
    """Return in one line the type of the first encoder, and which one refines its result, if any.

    Args:
        names: of the encoders in use.
    """
    if not names:
        return _("Rigid and affine registration compare intensities and need no encoder.")
    info, *details = (encoder_info(name) for name in names)
    line = f"{_sentence(info.strategy)}."
    if info.domain != "none":
        line = _("{strategy}; trained on: {domain}.").format(strategy=_sentence(info.strategy), domain=info.domain)
    for detail in details:
        line += " " + _("Details by {title}.").format(title=detail.title)
    return line


def encoder_tip(encoder: str) -> str:
    """Return details of an encoder: findings, licence and paper."""
    info = encoder_info(encoder)
    return _("{finding}.\nLicence: {license}. {citation}.").format(
        finding=_sentence(info.finding), license=info.license, citation=info.citation
    )


def missing_weights(names: Sequence[str], given: str) -> list[Any]:
    """Return the catalogue entries of the weights that are not on this machine.

    Args:
        names: of the encoders in use.
        given: the setting `weights`: a file, a folder, or empty.
    """
    missing = [weights for name in names for weights in encoder_list.missing_weights(encoder_info(name), given)]
    if not missing:
        return []
    from FoundationRegistrationLib.weights import catalogue

    entries = catalogue()
    return [entries[weights] for weights in missing]


def weights_line(names: Sequence[str], given: str) -> str:
    """Return in one line whether the weights of encoders are on this machine, or what must be downloaded.

    In a fresh Slicer the packages that locate weights are only installed with the first registration.
    """
    if not any(encoder_info(name).weights for name in names):
        return _("Weights: nothing to download.")
    try:
        absent = missing_weights(names, given)
    except ModuleNotFoundError as error:
        return _(
            "Weights: needed; whether they are on this machine is known once the Python packages are installed, for "
            "which Register asks ({package} is missing)."
        ).format(package=error.name)
    if not absent:
        return _("Weights: on this machine.")
    return _("Weights: {list}.").format(list="; ".join(_to_fetch(entry) for entry in absent))


def _to_fetch(entry: Any) -> str:
    size = f"{entry.size_bytes / 1e6:.0f} MB" if entry.size_bytes else _("size unknown")
    if entry.access != "open":
        return _("{name} must be downloaded by hand from {url} ({license}), then set in Advanced").format(
            name=entry.filename, url=entry.url, license=entry.license
        )
    return _("{title} will be downloaded after you confirm ({size}, {license})").format(
        title=entry.title, size=size, license=entry.license
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """Time and memory of a finished registration on this machine.

    Attributes:
        encoder: its name; two names with a plus sign if one refines the other; rigid or affine without one.
        device: the setting, "auto" included.
        slice_gap: the setting.
        voxels: of the fixed field of view at the working spacing.
        seconds: total time.
        memory_bytes: peak memory of the process.
        steps: measured seconds of each step, in order, from the start of the process until all is written.
    """

    encoder: str
    device: str
    slice_gap: int
    voxels: float
    seconds: float
    memory_bytes: float
    steps: dict[str, float] = dataclasses.field(default_factory=dict)


class RunHistory:
    """The last runs on this machine, for estimates of the next one.

    Args:
        settings: the application's `qt.QSettings`, which stores them.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def runs(self) -> list[Run]:
        """Return the runs on record; none if the record is missing or damaged."""
        try:
            return [Run(**values) for values in json.loads(self._settings.value(_RUNS_KEY) or "[]")]
        except (ValueError, TypeError):
            return []

    def add(self, run: Run) -> None:
        """Record a run; the oldest ones are dropped."""
        runs = [*self.runs(), run][-_RUNS_KEPT:]
        self._settings.setValue(_RUNS_KEY, json.dumps([dataclasses.asdict(run) for run in runs]))


def fixed_voxels(bounds: Sequence[float], settings: Settings) -> float:
    """Return the number of working voxels in the fixed field of view.

    Args:
        bounds: of the fixed volume, RAS mm: x from, to, y from, to, z from, to.
        settings: with the working spacing.
    """
    edges = [max(high - low, 0.0) for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    return math.prod(edges) / settings.working_spacing_mm**3


def run_of(record: Mapping[str, Any], voxels: float, steps: Mapping[str, float]) -> Run:
    """Return the time and memory of a run from its record.

    Args:
        record: the content of the engine's `report.json`.
        voxels: see `fixed_voxels`.
        steps: measured seconds of each step.
    """
    settings = Settings.from_dict(record["settings"])
    return Run(
        encoder=_kind_of_run(settings),
        device=settings.device,
        slice_gap=settings.slice_gap,
        voxels=voxels,
        seconds=sum(steps.values()),
        memory_bytes=max(record["peak_memory_bytes"].values()),
        steps=dict(steps),
    )


def expected_steps(runs: Sequence[Run], settings: Settings, voxels: float) -> dict[str, float]:
    """Return the expected seconds of each step of a run, from runs of the same kind on this machine, if any."""
    alike = [run for run in _alike(runs, settings) if run.steps]
    if not alike or voxels <= 0:
        return {}
    expected = {}
    for name in alike[-1].steps:
        measured = [(run.voxels, run.steps[name]) for run in alike if name in run.steps]
        constant = name == STARTING
        expected[name] = statistics.median(time for _, time in measured) if constant else _at(voxels, measured)
    return expected


def _at(voxels: float, measured: Sequence[tuple[float, float]]) -> float:
    """Return the seconds of a step at a number of voxels: along a line through those measured, rising from 0 or more.

    From one number of voxels nothing is known of a constant part, so that time is in proportion.
    """
    sizes, seconds = zip(*measured, strict=True)
    slope, constant = 0.0, 0.0
    if len(set(sizes)) > 1:
        slope, constant = statistics.linear_regression(sizes, seconds)
    if slope < 0.0:
        return statistics.median(seconds)
    if slope == 0.0 or constant < 0.0:
        return statistics.median(each / size for size, each in measured) * voxels
    return constant + slope * voxels


def estimate_line(runs: Sequence[Run], settings: Settings, voxels: float) -> str:
    """Return the expected time and memory, from runs of the same kind on this machine."""
    alike = _alike(runs, settings)
    if not alike or voxels <= 0:
        return _("Time and memory: available after the first run of this kind on this machine.")
    seconds = statistics.median(run.seconds / run.voxels for run in alike) * voxels
    nearest = min(alike, key=lambda run: abs(run.voxels - voxels))
    memory = nearest.memory_bytes * max(1.0, voxels / nearest.voxels)
    return _("About {time} and up to {memory:.1f} GB, estimated from {count} earlier run(s) on this machine.").format(
        time=duration(seconds), memory=memory / 1e9, count=len(alike)
    )


def _alike(runs: Sequence[Run], settings: Settings) -> list[Run]:
    """Return the runs whose time tells that of a run with these settings."""
    wanted = (_kind_of_run(settings), settings.device, settings.slice_gap)
    return [run for run in runs if (run.encoder, run.device, run.slice_gap) == wanted and run.voxels > 0]


def _kind_of_run(settings: Settings) -> str:
    return "+".join(settings.encoders) or settings.stages


def duration(seconds: float) -> str:
    """Return a time as text: "20 s", "3 min", "1 h 10 min"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
