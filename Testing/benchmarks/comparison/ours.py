"""This project's own registration."""

from __future__ import annotations

from FoundationRegistrationLib import Settings, register

from .methods import Found, Task


def with_encoder(task: Task, encoder: str) -> Found:
    """Register with the preset of the task, but this encoder, at the spacing of the case."""
    settings = Settings.from_preset(
        task.preset, encoder=encoder, detail_encoder="", working_spacing_mm=task.spacing_mm
    )
    return _registered(task, settings)


def with_preset(task: Task) -> Found:
    """Register with exactly the preset of the task."""
    return _registered(task, Settings.from_preset(task.preset))


def with_preset_fast(task: Task) -> Found:
    """Register with the preset "fast", whatever the task."""
    return _registered(task, Settings.from_preset("fast"))


def with_lesion_mask(task: Task) -> Found:
    """Register with the preset of the task and the moving lesion's mask, which keeps the lesion's volume."""
    return _registered(task, Settings.from_preset(task.preset), moving_lesion=task.lesion)


def _registered(task: Task, settings: Settings, **more: object) -> Found:
    result = register(task.fixed, task.moving, settings, initial_transform=task.start, **more)
    figures = {
        "folded_percent": result.metrics["jacobian"]["folded_percent"],
        "inverse_error_mm": result.metrics["inverse_error_mm"],
        "unfolded_percent": result.metrics["unfolded_percent"],
        "working_grid": result.record["working_grid"],
        "settings": result.record["settings"],
        "timings": dict(result.timings),
    }
    return Found(result.transform, result.messages, figures)
