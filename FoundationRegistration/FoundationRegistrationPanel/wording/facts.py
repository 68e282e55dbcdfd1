"""Texts of the panel about presets, encoders, weights and the time and memory of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from FoundationRegistrationBridge.process.time_to_go import DONE, STARTING
from slicer.i18n import tr as _

from FoundationRegistrationLib.encoders import encoder_info, encoders
from FoundationRegistrationLib.settings import PRESETS, Settings

from ..tasks import TASKS

_PRESET_TITLES = {"pet-ct-to-mri": "PET/CT to MRI", "dce": "Contrast series", "convexadam": "ConvexAdam"}


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
    needed = [weights for name in names if (weights := encoder_info(name).weights)]
    if not needed:
        return []
    from FoundationRegistrationLib.weights import catalogue
    from FoundationRegistrationLib.weights import missing_weights as missing_of

    entries = catalogue()
    return [entries[name] for weights in needed for name in missing_of(weights, given)]


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


def download_size(entry: Any) -> str:
    """Return the size of an entry of the catalogue of weights as text."""
    return f"{entry.size_bytes / 1e6:.0f} MB" if entry.size_bytes else _("size unknown")


def _to_fetch(entry: Any) -> str:
    if entry.access != "open":
        return _("{name} must be downloaded by hand from {url} ({license}), then set under Method").format(
            name=entry.filename, url=entry.url, license=entry.license
        )
    return _("{title} will be downloaded after you confirm ({size}, {license})").format(
        title=entry.title, size=download_size(entry), license=entry.license
    )


def expected_run(settings: Settings, size: Sequence[int], spacing: Sequence[float]) -> Any:
    """Return what a run is expected to take, from earlier ones on this machine; None before the first of its kind.

    In a fresh Slicer the package that locates them is only installed with the first registration.

    Args:
        settings: suited to the voxels of both volumes.
        size: of the fixed volume, voxels.
        spacing: of the fixed volume, mm.
    """
    try:
        from FoundationRegistrationLib.pipeline.estimate import history

        return history.expected_run(settings, history.voxels_of(size, spacing, settings))
    except ModuleNotFoundError:
        return None


def expected_steps(expected: Any) -> dict[str, float]:
    """Return the expected seconds of each step, under the names that a run reports; see `TimeToGo`.

    Args:
        expected: see `expected_run`.
    """
    if expected is None:
        return {}
    from FoundationRegistrationLib.pipeline.estimate.history import READING, WRITING

    # What is reported until the first and from the last step on.
    reported = {READING: STARTING, WRITING: DONE}
    return {reported.get(name, name): seconds for name, seconds in expected.steps.items()}


def estimate_line(expected: Any) -> str:
    """Return the expected time and memory as a sentence.

    Args:
        expected: see `expected_run`.
    """
    if expected is None:
        return _("Time and memory: available after the first run of this kind on this machine.")
    return _("About {time} and up to {memory:.1f} GB, estimated from {count} earlier run(s) on this machine.").format(
        time=duration(expected.seconds), memory=expected.memory_bytes / 1e9, count=expected.runs
    )


def duration(seconds: float) -> str:
    """Return a time as text: "20 s", "3 min", "1 h 10 min"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
