"""What each collapsed section holds, in its header: "Start: automatic, affine"."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..parameters import changed_settings, chosen_encoders, masks_of_task
from ..tasks import NO_TASK
from ..wording import facts

# A header is never narrower than its text, so that long names would widen the whole panel.
_MOST_LETTERS = 26


def show_section_states(ui: Any, parameters: Any) -> None:
    """Write the state of each section into its header, but for *What moves along*, which is no parameter.

    Args:
        ui: the panel's widgets.
        parameters: the parameter node.
    """
    for section, title, state in (
        (ui.startSection, _("Start"), _start(parameters)),
        (ui.masksSection, *_masks(parameters)),
        (ui.drivingSection, _("Structures and points"), _chosen(parameters, _driving())),
        (ui.methodSection, _("Method"), _method(parameters)),
        (ui.outputsSection, _("Outputs"), _outputs(parameters)),
        (ui.advancedSection, _("Advanced"), _advanced(parameters)),
    ):
        section.text = header(title, state)


def header(title: str, state: str) -> str:
    """Return the header of a section with its state, no longer than a narrow panel allows."""
    return f"{title}: {state if len(state) <= _MOST_LETTERS else state[: _MOST_LETTERS - 1] + '…'}"


def has_points(parameters: Any) -> bool:
    """Whether points of both images are chosen, which then also say where the registration starts."""
    return parameters.fixedDrivingPoints is not None and parameters.movingDrivingPoints is not None


def _start(parameters: Any) -> str:
    if parameters.initialTransform is not None:
        return _("'{name}'").format(name=parameters.initialTransform.GetName())
    if has_points(parameters):
        return _("landmarks")
    if parameters.initialization == "none":
        return _("as the images lie")
    title = facts.choice_titles("initialization")[parameters.initialization]
    return _("automatic, {how}").format(how=title[0].lower() + title[1:])


def _masks(parameters: Any) -> tuple[str, str]:
    words = {
        "fixedMask": _("fixed mask"),
        "movingMask": _("moving mask"),
        "fixedLesion": _("fixed lesions"),
        "movingLesion": _("moving lesions"),
    }
    taken = {name: words[name] for name in masks_of_task(parameters)}
    return _("Masks and lesions") if len(taken) > 1 else _("Mask"), _chosen(parameters, taken)


def _driving() -> dict[str, str]:
    return {"fixedStructures": _("structures"), "fixedDrivingPoints": _("points"), "region": _("region")}


def _chosen(parameters: Any, names: dict[str, str]) -> str:
    chosen = [title for name, title in names.items() if parameters.getValue(name) is not None]
    if len(chosen) > 1:
        return _("{count} chosen").format(count=len(chosen))
    return chosen[0] if chosen else _("none")


def _method(parameters: Any) -> str:
    if parameters.task == NO_TASK:
        return _("set by the task")
    encoders = [facts.encoder_title(name) for name in chosen_encoders(parameters)]
    how = encoders[:1] or [parameters.stages]
    return ", ".join([facts.preset_title(parameters.preset), *how])


def _outputs(parameters: Any) -> str:
    parts = [_("transform")]
    parts += [_("image")] if parameters.createVolume else []
    parts += [_("features")] if parameters.featurePreview else []
    return ", ".join(parts)


def _advanced(parameters: Any) -> str:
    changed = len(changed_settings(parameters))
    return _("{count} changed").format(count=changed) if changed else _("as the preset")
