"""The structures of a segmentation or label map by name, and their pairing between two sides.

Segments with the same name are one structure. Names are compared exactly first, and the rest without regard to case
and spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BridgeError
from .grids import VoxelGrid, array_from_image, grid_of
from .masks import LabelLayer, label_layers

Part = Callable[[], LabelLayer]
"""Creates a layer of a single segment, cropped to it."""


@dataclass(frozen=True)
class SharedStructure:
    """A structure of both sides.

    Attributes:
        name: display name; mentions combined segments and different spellings.
        fixed: its parts on the fixed side.
        moving: its parts on the moving side.
    """

    name: str
    fixed: tuple[Part, ...]
    moving: tuple[Part, ...]


def shared_structures(fixed: Any, moving: Any) -> tuple[list[SharedStructure], list[str]]:
    """Return the structures of both nodes, and descriptions of omitted ones.

    Two label maps with their own names (a colour table other than Slicer's) are compared by name, others by label.

    Args:
        fixed: segmentation or label map.
        moving: segmentation or label map.

    Raises:
        BridgeError: a label map has no voxels, or nothing is shared.
    """
    for node in (fixed, moving):
        if _is_label_map(node) and node.GetImageData() is None:
            msg = f"'{node.GetName()}' has no voxels; load it, or choose other labels."
            raise BridgeError(msg)
    by_label = all(_is_label_map(node) for node in (fixed, moving)) and not all(
        _names_its_labels(node) for node in (fixed, moving)
    )
    sides = [parts_by_name(node, by_label) for node in (fixed, moving)]
    shared = [_together([name], [name], *sides) for name in sides[0] if name in sides[1]]
    rest = [{name: None for name in side if name not in other} for side, other in (sides, sides[::-1])]
    loosely = [_by_loose_name(names) for names in rest]
    shared += [_together(names, loosely[1][key], *sides) for key, names in loosely[0].items() if key in loosely[1]]
    left_out = [
        f"{name} (only in '{node.GetName()}')"
        for node, names, others in zip((fixed, moving), loosely, loosely[::-1], strict=True)
        for key in names
        if key not in others
        for name in names[key]
    ]
    empty = [structure.name for structure in shared if not (structure.fixed and structure.moving)]
    left_out += [f"{name} (empty)" for name in empty]
    shared = [structure for structure in shared if structure.name not in empty]
    if not shared:
        msg = (
            f"'{fixed.GetName()}' and '{moving.GetName()}' have no segment of the same name that is not empty "
            f"({'; '.join(left_out) or 'there are none'}); rename their segments, or give a label map a colour "
            "table with their names."
        )
        raise BridgeError(msg)
    return shared, left_out


def _together(
    fixed_names: list[str],
    moving_names: list[str],
    fixed: Mapping[str, list[Part]],
    moving: Mapping[str, list[Part]],
) -> SharedStructure:
    parts = [
        tuple(part for name in names for part in side[name])
        for names, side in ((fixed_names, fixed), (moving_names, moving))
    ]
    name = " / ".join(dict.fromkeys([*fixed_names, *moving_names]))
    if max(map(len, parts)) > 1:
        name += f" ({len(parts[0])} fixed and {len(parts[1])} moving segments together)"
    return SharedStructure(name, *parts)


def _by_loose_name(names: Mapping[str, None]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(loose(name), []).append(name)
    return groups


def loose(name: str) -> str:
    """Return a name without regard to case and blanks."""
    return "".join(name.split()).casefold()


def parts_by_name(node: Any, by_label: bool = False) -> dict[str, list[Part]]:
    """Return the parts of each structure of a segmentation or label map; a segment without voxels has none.

    Args:
        node: segmentation or label map with voxels.
        by_label: call the structures of a label map by their labels, whatever its colour table says.
    """
    named: dict[str, list[Part]] = {}
    if not _is_label_map(node):
        segmentation = node.GetSegmentation()
        named = {segmentation.GetSegment(name).GetName(): [] for name in segmentation.GetSegmentIDs()}
    for name, part in _label_map_parts(node, by_label) if _is_label_map(node) else _segment_parts(node):
        named.setdefault(name, []).append(part)
    return named


def _segment_parts(node: Any) -> Iterator[tuple[str, Part]]:
    segmentation = node.GetSegmentation()
    for layer in label_layers(node):
        present = set(np.unique(layer.labels).tolist())
        for label, segment_id in layer.segment_ids.items():
            if label in present:
                yield segmentation.GetSegment(segment_id).GetName(), _part(layer.labels, layer.grid, label)


def _label_map_parts(node: Any, by_label: bool) -> Iterator[tuple[str, Part]]:
    labels, grid = array_from_image(node.GetImageData()), grid_of(node)
    for label in np.unique(labels[labels != 0]).tolist():
        name = "" if by_label else _name_of_label(node, label)
        yield name or f"label {label:g}", _part(labels, grid, label)


def _part(labels: np.ndarray, grid: VoxelGrid, label: float) -> Part:
    return lambda: _cropped(labels == label, grid)


def _cropped(mask: np.ndarray, grid: VoxelGrid) -> LabelLayer:
    """Return a mask cropped to its content."""
    occupied = np.argwhere(mask)
    low, high = occupied.min(0), occupied.max(0)
    box = tuple(slice(start, stop + 1) for start, stop in zip(low, high, strict=True))
    return LabelLayer(mask[box].astype(np.uint8), grid.extended(low[::-1], high[::-1]), {})


def _is_label_map(node: Any) -> bool:
    return not node.IsA("vtkMRMLSegmentationNode")


def _colours(node: Any) -> Any | None:
    display = node.GetDisplayNode()
    return display.GetColorNode() if display is not None else None


def _names_its_labels(node: Any) -> bool:
    """Whether a label map has its own colour table, other than Slicer's default tables."""
    colours = _colours(node)
    return colours is not None and not colours.GetSingletonTag()


def _name_of_label(node: Any, label: int) -> str:
    """Return the name of a label in the label map's own colour table; empty if it has none."""
    colours = _colours(node)
    if not _names_its_labels(node) or label not in range(colours.GetNumberOfColors()):
        return ""
    name = colours.GetColorName(int(label)) or ""
    return "" if name == colours.GetNoName() else name
