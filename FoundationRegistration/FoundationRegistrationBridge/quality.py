"""How good a registration is, in figures: a table node with labels and landmarks before and after.

Everything is measured in the world, where the nodes are with their parents and without the registration, and
where the registration brings them. The measures are the engine's. What lies outside the field of view of the fixed
volume has no counterpart there and does not count for Dice and HD95; volumes are those of whole structures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from .carried import carried_to_world, uncarried_to_world
from .errors import BridgeError
from .lattices import Lattice, array_from_image, lattice_of, map_points
from .library import add_library_to_path
from .masks import LabelLayer, label_layers
from .resampling import resample_labels
from .scene_changes import all_or_nothing
from .spaces import to_world
from .transforms import stored_record, world_registration
from .volumes import lattice_in_world

_COLUMNS = ("Measure", "Structure", "Before", "After", "Unit")
_MARGIN_VOXELS = 2
_MOST_VOXELS = 256**3
_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class QualityRow:
    """One figure; None where there is none.

    Attributes:
        measure: what is measured.
        structure: of which segment or landmark; empty for all.
        before: where the nodes are without the registration.
        after: where the registration brings them.
        unit: of both; empty for a plain number.
    """

    measure: str
    structure: str
    before: float | None
    after: float | None
    unit: str


def quality_table(
    fixed_labels: Any, moving_labels: Any, fixed_points: Any, moving_points: Any, transform_node: Any
) -> Any:
    """Return a new table node with all that can be measured.

    Args:
        fixed_labels: segmentation or label map of the fixed volume, or None.
        moving_labels: of the moving volume; segments of the same name, or equal labels, belong together.
        fixed_points: markups with landmarks of the fixed volume, or None.
        moving_points: of the moving volume; paired by name, or by order if the names do not say.
        transform_node: the registration.

    Raises:
        BridgeError: nothing can be measured, or one side is missing.
    """
    rows = quality_rows(fixed_labels, moving_labels, fixed_points, moving_points, transform_node)
    node = slicer.vtkMRMLTableNode()
    for number, title in enumerate(_COLUMNS):
        column = vtk.vtkStringArray()
        column.SetName(title)
        for row in rows:
            value = (row.measure, row.structure, row.before, row.after, row.unit)[number]
            column.InsertNextValue(value if isinstance(value, str) else _written(value))
        node.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    with all_or_nothing(transform_node.GetScene()) as changes:
        return changes.add(node, f"Quality of {transform_node.GetName()}")


def quality_rows(
    fixed_labels: Any, moving_labels: Any, fixed_points: Any, moving_points: Any, transform_node: Any
) -> list[QualityRow]:
    """Return the rows of `quality_table`."""
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


def _written(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _record_rows(record: dict[str, Any]) -> list[QualityRow]:
    """Return what the engine measured itself."""
    if not record:
        return []
    metrics = record["metrics"]
    error = metrics["inverse_error_mm"]
    return [
        QualityRow("Folded", "", None, metrics["jacobian"]["folded_percent"], "%"),
        QualityRow("Forward then inverse, mean", "", None, error["mean"], "mm"),
        QualityRow("Forward then inverse, maximum", "", None, error["max"], "mm"),
    ]


def _landmark_rows(fixed: Any, moving: Any, transform_node: Any) -> list[QualityRow]:
    """Return the target registration error: the distance that remains, in moving space as the engine has it."""
    from FoundationRegistrationLib.errors import FoundationRegistrationError
    from FoundationRegistrationLib.landmarks import paired

    try:
        pair = paired(
            _landmarks(fixed, to_world(fixed.GetParentTransformNode())),
            _landmarks(moving, uncarried_to_world(moving, transform_node)),
        )
    except FoundationRegistrationError as error:
        raise BridgeError(str(error)) from error
    fixed_points, moving_points = (side.points * _LPS for side in pair)
    mapped = map_points(world_registration(transform_node), fixed_points)
    before = np.linalg.norm(fixed_points - moving_points, axis=1)
    after = np.linalg.norm(mapped - moving_points, axis=1)
    rows = [
        QualityRow("TRE, mean", "", before.mean(), after.mean(), "mm"),
        QualityRow("TRE, maximum", "", before.max(), after.max(), "mm"),
    ]
    return rows + [
        QualityRow("TRE", name, *errors, "mm")
        for name, *errors in zip(pair[0].names, before.tolist(), after.tolist(), strict=True)
    ]


def _landmarks(markups: Any, transform: vtk.vtkAbstractTransform) -> Any:
    from FoundationRegistrationLib.landmarks import Landmarks

    count = markups.GetNumberOfControlPoints()
    points = np.array([markups.GetNthControlPointPosition(number) for number in range(count)]).reshape(-1, 3)
    names = tuple(markups.GetNthControlPointLabel(number) for number in range(count))
    return Landmarks(names, map_points(transform, points) * _LPS)


def _label_rows(fixed: Any, moving: Any, transform_node: Any) -> list[QualityRow]:
    """Return Dice, HD95 and volume of each structure that both sides have.

    Raises:
        BridgeError: there is none.
    """
    fixed_structures = dict(_structures(fixed))
    moving_structures = dict(_structures(moving))
    shared = [name for name in fixed_structures if name in moving_structures]
    if not shared:
        msg = f"'{fixed.GetName()}' and '{moving.GetName()}' have no segment of the same name; rename their segments."
        raise BridgeError(msg)
    fixed_to_world = to_world(fixed.GetParentTransformNode())
    stages = (uncarried_to_world(moving, transform_node), carried_to_world(moving, transform_node))
    seen = _field_of_view(transform_node)
    rows = []
    for name in shared:
        overlaps = [
            _agreement(fixed_structures[name], moving_structures[name], fixed_to_world, moving_to_world, seen)
            for moving_to_world in stages
        ]
        for measure, unit, values in zip(
            ("Dice", "HD95", "Volume"), ("", "mm", "cm3"), zip(*overlaps, strict=True), strict=True
        ):
            rows.append(QualityRow(measure, name, *values, unit))
    return rows


def _field_of_view(transform_node: Any) -> tuple[LabelLayer, vtk.vtkAbstractTransform] | None:
    """Return all of the fixed volume of a registration as one structure, with its map to the world; None if gone."""
    fixed = transform_node.GetNodeReference(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole())
    if fixed is None or fixed.GetImageData() is None:
        return None
    lattice = lattice_of(fixed)
    everywhere = np.ones(lattice.dimensions[::-1], np.uint8)
    return LabelLayer(everywhere, lattice, {}), to_world(fixed.GetParentTransformNode())


def _structures(node: Any) -> Iterator[tuple[str, Callable[[], LabelLayer]]]:
    """Give the name of each structure, and what makes a layer of it alone, as small as it is."""
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        for layer in label_layers(node):
            for label, segment_id in layer.segment_ids.items():
                name = segmentation.GetSegment(segment_id).GetName()
                yield name, lambda layer=layer, label=label: _cropped(layer.labels == label, layer.lattice)
    else:
        labels, lattice = array_from_image(node.GetImageData()), lattice_of(node)
        for label in np.unique(labels[labels != 0]).tolist():
            yield f"label {label}", lambda label=label: _cropped(labels == label, lattice)


def _cropped(mask: np.ndarray, lattice: Lattice) -> LabelLayer:
    """Return the part of a mask that has something in it; all of it if it is empty."""
    occupied = np.argwhere(mask)
    if not len(occupied):
        return LabelLayer(mask.astype(np.uint8), lattice, {})
    low, high = occupied.min(0), occupied.max(0)
    box = tuple(slice(start, stop + 1) for start, stop in zip(low, high, strict=True))
    return LabelLayer(mask[box].astype(np.uint8), lattice.extended(low[::-1], high[::-1]), {})


def _agreement(
    fixed: Callable[[], LabelLayer],
    moving: Callable[[], LabelLayer],
    fixed_to_world: vtk.vtkAbstractTransform,
    moving_to_world: vtk.vtkAbstractTransform,
    seen: tuple[LabelLayer, vtk.vtkAbstractTransform] | None,
) -> tuple[float, float, float]:
    """Return Dice, HD95 (mm) and the moving structure's volume (cm3) in the world; NaN if too far apart to say.

    Dice and HD95 are those of what lies inside `seen`.
    """
    import SimpleITK as sitk

    from FoundationRegistrationLib.metrics import dice, hausdorff95

    sides = ((fixed(), fixed_to_world), (moving(), moving_to_world))
    common = _common_lattice(sides)
    if np.prod(common.dimensions, dtype=float) > _MOST_VOXELS:
        return math.nan, math.nan, math.nan
    masks = [
        resample_labels(layer.labels, layer.lattice, common, transform.GetInverse())
        for layer, transform in (*sides, *((seen,) if seen else ()))
    ]
    volume = np.count_nonzero(masks[1]) * np.prod(common.spacing) / 1000.0
    images = []
    for mask in masks[:2]:
        image = sitk.GetImageFromArray(mask * masks[2] if seen else mask)
        image.SetSpacing(common.spacing.tolist())
        images.append(image)
    return dice(*images, [1])[1], hausdorff95(*images, [1])[1], float(volume)


def _common_lattice(sides: tuple[tuple[LabelLayer, vtk.vtkAbstractTransform], ...]) -> Lattice:
    """Return a lattice in the world, with the voxels of the first side, that holds both."""
    world, _ = lattice_in_world(sides[0][0].lattice, sides[0][1])
    points = [map_points(transform, layer.lattice.sample_points()) for layer, transform in sides]
    indices = world.indices(np.concatenate(points))
    return world.extended(
        np.floor(indices.min(0)) - _MARGIN_VOXELS,
        np.ceil(indices.max(0)) + _MARGIN_VOXELS,
    )
