"""Structures and points of both volumes, which drive a registration, as files in world coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..library import add_library_to_path
from ..nodes.grids import RAS_TO_LPS, VoxelGrid, sitk_image
from ..nodes.masks import union_on
from ..nodes.point_pairs import placed_pairs, positions
from ..nodes.spaces import from_world, parent_without, to_world
from ..nodes.structures import SharedStructure, shared_structures

_KINDS = {
    "structures": (("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"), "a segmentation or a label map"),
    "points": (("vtkMRMLMarkupsFiducialNode",), "a point list"),
}

Pair = tuple[Any, Any]
"""The node of the fixed and that of the moving volume; both None without."""


def check_driving(kind: str, pair: Pair) -> None:
    """Check that structures or points can drive a registration.

    Args:
        kind: "structures" or "points".
        pair: their nodes.

    Raises:
        BridgeError: only one side is given, both are the same node, or one is of another kind or empty.
    """
    fixed, moving = pair
    if fixed is None and moving is None:
        return
    if fixed is None or moving is None:
        missing, given = ("fixed", "moving") if fixed is None else ("moving", "fixed")
        msg = f"Choose the {missing} {kind} too, or no {given} {kind}: they drive the registration in pairs."
        raise BridgeError(msg)
    if fixed is moving:
        msg = f"'{fixed.GetName()}' is both the fixed and the moving {kind}; choose those of each volume."
        raise BridgeError(msg)
    classes, wanted = _KINDS[kind]
    for role, node in (("fixed", fixed), ("moving", moving)):
        if not any(node.IsA(name) for name in classes):
            msg = f"'{node.GetName()}' cannot be the {role} {kind}; choose {wanted}."
            raise BridgeError(msg)
        if _is_empty(node):
            msg = f"The {role} {kind} '{node.GetName()}' are empty; draw some, or choose none for both volumes."
            raise BridgeError(msg)


def _is_empty(node: Any) -> bool:
    if node.IsA("vtkMRMLSegmentationNode"):
        return node.GetSegmentation().GetNumberOfSegments() == 0
    if node.IsA("vtkMRMLMarkupsNode"):
        return node.GetNumberOfDefinedControlPoints() == 0
    return node.GetImageData() is None


def write_driving(
    kind: str, pair: Pair, grids: Mapping[str, VoxelGrid], left_out: Any, folder: Path
) -> tuple[list[str | Path], list[str]]:
    """Write structures or points; return the options of the engine's command line, and messages for the user.

    Args:
        kind: "structures" or "points".
        pair: their nodes, each in the coordinates of its own parents.
        grids: of the fixed and the moving volume in the world.
        left_out: a transform node to ignore above the moving ones, such as an earlier result.
        folder: for the files.

    Raises:
        BridgeError: nothing corresponds, nothing lies within the volumes, or a file cannot be written.
    """
    if pair[0] is None:
        return [], []
    add_library_to_path()
    from FoundationRegistrationLib.errors import FoundationRegistrationError

    write = _write_structures if kind == "structures" else _write_points
    try:
        files, ignored = write(pair, grids, left_out, folder)
    except FoundationRegistrationError as error:
        raise BridgeError(str(error)) from error
    options: list[str | Path] = []
    for role, file in files.items():
        options += [f"--{role}-{kind}", file]
    return options, [f"These {kind} do not drive the registration: {'; '.join(ignored)}."] if ignored else []


def _write_points(
    pair: Pair, _grids: Mapping[str, VoxelGrid], left_out: Any, folder: Path
) -> tuple[dict[str, Path], list[str]]:
    """Write the placed control points of both lists, in the same order and with the names of the fixed ones."""
    from FoundationRegistrationLib.io.landmark_files import write_points
    from FoundationRegistrationLib.io.landmarks import Landmarks

    pairs, ignored = placed_pairs(*pair)
    names = tuple(pair[0].GetNthControlPointLabel(number) for number, _ in pairs)
    files = {}
    for role, node, numbers in zip(("fixed", "moving"), pair, zip(*pairs, strict=True), strict=True):
        points = positions(node, list(numbers), to_world(parent_without(node, left_out)))
        files[role] = folder / f"{role}_points.mrk.json"
        write_points(files[role], Landmarks(names, points * RAS_TO_LPS))
    return files, ignored


def _write_structures(
    pair: Pair, grids: Mapping[str, VoxelGrid], left_out: Any, folder: Path
) -> tuple[dict[str, Path], list[str]]:
    """Write the shared structures of both nodes, each on the grid of its volume, with the same names."""
    shared, ignored = shared_structures(*pair)
    sides = {
        role: _masks([(each, getattr(each, role)) for each in shared], grids[role], node, left_out)
        for role, node in zip(("fixed", "moving"), pair, strict=True)
    }
    for role, node in zip(("fixed", "moving"), pair, strict=True):
        ignored += [
            f"{each.name} ('{node.GetName()}' has none of it within the {role} volume)"
            for each in shared
            if each.name not in sides[role]
        ]
    names = [each.name for each in shared if all(each.name in masks for masks in sides.values())]
    if not names:
        msg = f"No structure lies within both volumes: {'; '.join(ignored)}; choose structures of these volumes."
        raise BridgeError(msg)
    files = {role: folder / f"{role}_structures.seg.nrrd" for role in sides}
    for role, file in files.items():
        _write_masks({name: sides[role][name] for name in names}, grids[role], file)
    return files, ignored


def _masks(
    parts: list[tuple[SharedStructure, Any]], grid: VoxelGrid, node: Any, left_out: Any
) -> dict[str, np.ndarray]:
    """Return the mask (k, j, i) of each structure that lies in a grid in the world, by name."""
    to_node = from_world(parent_without(node, left_out))
    masks = {each.name: union_on((part() for part in own), grid, to_node) for each, own in parts}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _write_masks(masks: Mapping[str, np.ndarray], grid: VoxelGrid, path: Path) -> None:
    """Write masks by name; those that overlap go into further layers."""
    from FoundationRegistrationLib.io.segmentation_files import write_segmentation_directly
    from FoundationRegistrationLib.io.segmentations import Segment, Segmentation

    layers: list[np.ndarray] = []
    segments = []
    for label, (name, mask) in enumerate(masks.items(), start=1):
        inside = mask != 0
        free = next((number for number, layer in enumerate(layers) if not layer[inside].any()), len(layers))
        if free == len(layers):
            layers.append(np.zeros(mask.shape, np.uint16))
        layers[free][inside] = label
        segments.append(Segment(free, label, {"ID": f"Segment_{label}", "Name": name}))
    images = tuple(sitk_image(layer, grid) for layer in layers)
    write_segmentation_directly(Segmentation(images, tuple(segments)), path)
