"""The inputs of a registration as files in world coordinates, and the command line of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..library import add_library_to_path
from ..nodes.masks import mask_on
from ..nodes.regions import box_in_world
from ..nodes.spaces import chain, parent_without
from ..nodes.volumes import volume_in_world, write_array, write_volume
from ..scene.transforms import write_initial_transform
from .driving import write_driving
from .inputs import JobInputs

RESULT = "result"


def export_inputs(inputs: JobInputs, folder: Path, messages: list[str]) -> list[str | Path]:
    """Write the inputs of the engine into a folder; return its command line arguments.

    Args:
        inputs: nodes and options.
        folder: for the files.
        messages: what is left out of the inputs is appended.

    Raises:
        BridgeError: a setting is wrong, a mask is empty, no structures or points correspond, or a file cannot be
            written.
    """
    settings = folder / "settings.json"
    settings.write_text(settings_as_json(_settings(inputs)), encoding="utf-8")
    arguments: list[str | Path] = ["register"]
    options: list[str | Path] = ["--output", folder / RESULT, "--settings", settings, "--progress", "json"]
    grids = {}
    for role, node, masks in (
        ("fixed", inputs.fixed, {"mask": inputs.fixed_mask, "lesion": inputs.fixed_lesion}),
        ("moving", inputs.moving, {"mask": inputs.moving_mask, "lesion": inputs.moving_lesion}),
    ):
        image, grid = volume_in_world(node, parent_without(node, inputs.output_transform))
        grids[role] = grid
        volume = folder / f"{role}.nrrd"
        write_volume(image, grid, volume)
        arguments.append(volume)
        for kind, mask in masks.items():
            if mask is not None:
                file = folder / f"{role}_{kind}.nrrd"
                write_array(mask_on(mask, grid, f"{role} {kind}", inputs.output_transform), grid, file)
                options += [f"--{role}-{kind}", file]
    for kind, pair in inputs.driving.items():
        added, ignored = write_driving(kind, pair, grids, inputs.output_transform, folder)
        options += added
        messages += ignored
    if inputs.region is not None:
        file = folder / "region.nrrd"
        grid = box_in_world(inputs.region)
        write_array(np.ones(grid.dimensions[::-1], np.uint8), grid, file)
        options += ["--region", file]
    if _starts_from_a_transform(inputs):
        file = folder / "initial_transform.h5"
        parent = parent_without(inputs.moving, inputs.output_transform)
        write_initial_transform(inputs.initial_transform, grids["fixed"], file, parent)
        options += ["--initial-transform", file]
    options += ["--feature-preview"] if inputs.feature_preview else []
    options += ["--maps"] if inputs.maps else []
    return [*arguments, *options]


def _starts_from_a_transform(inputs: JobInputs) -> bool:
    """Whether there is an initial transform that is not already above the moving volume."""
    return inputs.initial_transform is not None and not _is_under(inputs)


def _is_under(inputs: JobInputs) -> bool:
    return inputs.initial_transform in chain(parent_without(inputs.moving, inputs.output_transform))


def _settings(inputs: JobInputs) -> dict[str, Any]:
    """Return the settings, without an initial alignment if the initial transform is already above the volume."""
    if inputs.initial_transform is not None and _is_under(inputs):
        return {**inputs.settings, "initialization": "none"}
    return dict(inputs.settings)


def settings_as_json(settings: Mapping[str, Any]) -> str:
    """Return validated settings as the content of the engine's settings file.

    Raises:
        BridgeError: a name or value is wrong.
    """
    add_library_to_path()
    from FoundationRegistrationLib.errors import FoundationRegistrationError
    from FoundationRegistrationLib.settings import Settings

    values = dict(settings)
    try:
        return json.dumps(Settings.from_preset(values.pop("preset", "default"), **values).to_dict())
    except FoundationRegistrationError as error:
        raise BridgeError(str(error)) from error
