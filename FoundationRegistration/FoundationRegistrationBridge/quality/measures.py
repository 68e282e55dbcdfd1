"""Quality of a registration: labels and landmarks before and after.

Everything is measured in the world, for nodes with their parent transforms, without and with the registration. The
measures are the engine's. Parts outside the field of view of the fixed volume have no counterpart there and are
excluded from Dice and HD95; volumes are those of whole structures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from ..library import add_library_to_path
from ..nodes.grids import RAS_TO_LPS, VoxelGrid, grid_of, map_points
from ..nodes.masks import LabelLayer, union_on
from ..nodes.point_pairs import placed_pairs, positions
from ..nodes.spaces import to_world
from ..nodes.structures import Part, shared_structures
from ..nodes.volumes import grid_in_world
from ..scene.carried import carried_to_world, uncarried_to_world
from ..scene.transforms import stored_record, world_registration

_MARGIN_VOXELS = 2
_MOST_VOXELS = 256**3
_COARSEST = 2.0  # times the spacing of the fixed structure, for large structures


@dataclass(frozen=True)
class QualityRow:
    """One row of figures; None for missing ones.

    Attributes:
        measure: what is measured.
        structure: segment or landmark, or what was not measured and why; empty for all.
        before: without the registration.
        after: with the registration.
        unit: of both; empty for a plain number.
    """

    measure: str
    structure: str
    before: float | None
    after: float | None
    unit: str


def quality_rows(
    fixed_labels: Any, moving_labels: Any, fixed_points: Any, moving_points: Any, transform_node: Any
) -> list[QualityRow]:
    """Return all available measures; see `quality_table`.

    Raises:
        BridgeError: nothing can be measured, or one side is missing.
    """
    add_library_to_path()
    rows: list[QualityRow] = []
    for fixed, moving, what, measure in (
        (fixed_labels, moving_labels, "labels", _label_rows),
        (fixed_points, moving_points, "landmarks", _landmark_rows),
    ):
        if (fixed is None) != (moving is None):
            msg = f"Choose {what} of both volumes, or of neither."
            raise BridgeError(msg)
        if fixed is not None:
            rows += measure(fixed, moving, transform_node)
    rows += _record_rows(stored_record(transform_node))
    if not rows:
        msg = "There is nothing to measure: choose labels or landmarks of both volumes."
        raise BridgeError(msg)
    return rows


def _record_rows(record: dict[str, Any]) -> list[QualityRow]:
    """Return the engine's own measures."""
    if not record:
        return []
    metrics = record["metrics"]
    error = metrics["inverse_error_mm"]
    return [
        QualityRow("Folded", "", None, metrics["jacobian"]["folded_percent"], "%"),
        QualityRow("Inverse error, mean", "", None, error["mean"], "mm"),
        QualityRow("Inverse error, maximum", "", None, error["max"], "mm"),
    ]


def _landmark_rows(fixed: Any, moving: Any, transform_node: Any) -> list[QualityRow]:
    """Return the target registration error in moving space, as the engine does; not of points that drove.

    Raises:
        BridgeError: the landmarks cannot be paired, or none is placed on both sides.
    """
    from FoundationRegistrationLib.evaluation.accuracy import independent_landmarks

    pairs, left_out = placed_pairs(fixed, moving)
    fixed_points = positions(fixed, [pair[0] for pair in pairs], to_world(fixed.GetParentTransformNode()))
    independent = independent_landmarks(_driving(transform_node), fixed_points * RAS_TO_LPS)
    left_out += [
        f"{fixed.GetNthControlPointLabel(pair[0])} (drove the registration)"
        for pair, free in zip(pairs, independent, strict=True)
        if not free
    ]
    if not independent.any():
        return [_not_measured(what) for what in left_out]
    pairs, fixed_points = [pairs[place] for place in np.flatnonzero(independent)], fixed_points[independent]
    moving_points = positions(moving, [pair[1] for pair in pairs], uncarried_to_world(moving, transform_node))
    mapped = map_points(world_registration(transform_node), fixed_points)
    before = np.linalg.norm(fixed_points - moving_points, axis=1)
    after = np.linalg.norm(mapped - moving_points, axis=1)
    rows = [
        QualityRow("TRE, mean", "", before.mean(), after.mean(), "mm"),
        QualityRow("TRE, maximum", "", before.max(), after.max(), "mm"),
    ]
    rows += [
        QualityRow("TRE", fixed.GetNthControlPointLabel(pair[0]), *errors, "mm")
        for pair, *errors in zip(pairs, before.tolist(), after.tolist(), strict=True)
    ]
    return rows + [_not_measured(what) for what in left_out]


def _driving(transform_node: Any) -> dict[str, Any]:
    """Return the structures and points that drove a registration, from its record."""
    return stored_record(transform_node).get("driving") or {}


def _not_measured(what: str) -> QualityRow:
    return QualityRow("Not measured", what, None, None, "")


def _label_rows(fixed: Any, moving: Any, transform_node: Any) -> list[QualityRow]:
    """Return Dice, HD95 and volume of each structure that both sides have, and how much it has grown between them.

    Raises:
        BridgeError: there is none.
    """
    shared, left_out = shared_structures(fixed, moving)
    fixed_to_world = to_world(fixed.GetParentTransformNode())
    stages = (uncarried_to_world(moving, transform_node), carried_to_world(moving, transform_node))
    seen = _field_of_view(transform_node)
    drove = {structure["name"] for structure in _driving(transform_node).get("structures", ())}
    rows = []
    for structure in shared:
        name = f"{structure.name} (drove the registration)" if structure.name in drove else structure.name
        overlaps = [
            _agreement(structure.fixed, structure.moving, fixed_to_world, moving_to_world, seen)
            for moving_to_world in stages
        ]
        lost = [math.isnan(volume) for *_, volume in overlaps]
        if any(lost):
            when = "" if all(lost) else " before the registration" if lost[0] else " after the registration"
            left_out.append(f"{name}{when} (the outlines are too large, or too far apart)")
        if all(lost):
            continue
        *compared, (drawn, _) = zip(*overlaps, strict=True)
        for measure, unit, values in zip(("Dice", "HD95", "Volume"), ("", "mm", "cm3"), compared, strict=True):
            rows.append(QualityRow(measure, name, *values, unit))
        if any(lost):
            continue
        rows.append(QualityRow("Volume, fixed", name, None, drawn, "cm3"))
        if moving_volume := compared[-1][0]:
            grown = 100.0 * (drawn / moving_volume - 1.0)
            rows.append(QualityRow("Growth", name, None, grown, "%"))
    return rows + [_not_measured(what) for what in left_out]


def _field_of_view(transform_node: Any) -> tuple[LabelLayer, vtk.vtkAbstractTransform] | None:
    """Return the fixed volume of a registration as one structure, with its map to the world; None if removed."""
    fixed = transform_node.GetNodeReference(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole())
    if fixed is None or fixed.GetImageData() is None:
        return None
    grid = grid_of(fixed)
    everywhere = np.ones(grid.dimensions[::-1], np.uint8)
    return LabelLayer(everywhere, grid, {}), to_world(fixed.GetParentTransformNode())


def _agreement(
    fixed: Sequence[Part],
    moving: Sequence[Part],
    fixed_to_world: vtk.vtkAbstractTransform,
    moving_to_world: vtk.vtkAbstractTransform,
    seen: tuple[LabelLayer, vtk.vtkAbstractTransform] | None,
) -> tuple[float, float, float, float]:
    """Return Dice, HD95 (mm), and the volumes (cm3) of moving and fixed structure in the world.

    All are NaN if the structures are too large or too far apart. The parts of each side count as one. Dice and HD95
    are measured inside `seen`. Large structures are compared on up to twice as coarse a grid.
    """
    import SimpleITK as sitk

    from FoundationRegistrationLib.evaluation.overlap import dice, hausdorff95

    sides = [
        ([part() for part in parts], transform)
        for parts, transform in ((fixed, fixed_to_world), (moving, moving_to_world))
    ]
    common = _common_grid(sides)
    factor = (np.prod(common.dimensions, dtype=float) / _MOST_VOXELS) ** (1.0 / 3.0)
    if factor > _COARSEST:
        return math.nan, math.nan, math.nan, math.nan
    if factor > 1.0:
        common = common.coarser(factor)
    masks = [union_on(layers, common, transform.GetInverse()) for layers, transform in sides]
    drawn, volume = (float(np.count_nonzero(mask) * np.prod(common.spacing) / 1000.0) for mask in masks)
    visible = union_on([seen[0]], common, seen[1].GetInverse()) if seen else None
    images = []
    for mask in masks:
        image = sitk.GetImageFromArray(mask if visible is None else mask * visible)
        image.SetSpacing(common.spacing.tolist())
        images.append(image)
    return dice(*images, [1])[1], hausdorff95(*images, [1])[1], volume, drawn


def _common_grid(sides: Sequence[tuple[Sequence[LabelLayer], vtk.vtkAbstractTransform]]) -> VoxelGrid:
    """Return a grid in the world, with the voxel spacing of the first side, that contains all layers of both."""
    (first, *_), to_common = sides[0]
    world, _ = grid_in_world(first.grid, to_common)
    points = [map_points(transform, layer.grid.sample_points()) for layers, transform in sides for layer in layers]
    indices = world.indices(np.concatenate(points))
    return world.extended(
        np.floor(indices.min(0)) - _MARGIN_VOXELS,
        np.ceil(indices.max(0)) + _MARGIN_VOXELS,
    )
