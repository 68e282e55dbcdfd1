"""What becomes of the structures of a label map that is propagated: their volumes, and which are lost or cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ...spatial.points import physical_points, transform_points
from .outside import MORE_THAN_A_LITTLE

_MOST_PARTS = 200
_POINTS_A_PART = 400
_MOST_NAMED = 8
_ANY_CONTACT = np.ones((3, 3, 3))


@dataclass(frozen=True)
class Fate:
    """The fate of a label: its connected parts, and sample points in them.

    Attributes:
        parts: number of parts.
        lost: parts inside the reference that have no voxel in the result.
        points: number of sample points.
        outside: sample points outside the reference.
        before_mm3: volume in the label map.
        after_mm3: volume in the result.
    """

    parts: int
    lost: int
    points: int
    outside: int
    before_mm3: float
    after_mm3: float


def fates(labels: sitk.Image, carried: sitk.Image, inverse: sitk.Transform) -> Iterator[tuple[int, Fate]]:
    """Compare each label of a label map with the warped one, in ascending order."""
    array, result = sitk.GetArrayViewFromImage(labels), sitk.GetArrayViewFromImage(carried)
    size = np.array(carried.GetSize())
    before, after = np.prod(labels.GetSpacing()), np.prod(carried.GetSpacing())
    kept = {label: int(np.count_nonzero(result[there] == label)) for label, there in _windows(carried)}
    for label, window in _windows(labels):
        lost = points = outside = voxels = 0
        parts = _parts(array[window] == label)
        for part in parts:
            voxels += len(part)
            part = part[:: -(-len(part) // _POINTS_A_PART)] + [side.start for side in window]
            there = transform_points(inverse, physical_points(labels, part[:, ::-1].astype(float)))
            index = np.rint([carried.TransformPhysicalPointToContinuousIndex(point) for point in there.tolist()])
            inside = ((index >= 0) & (index < size)).all(axis=1)
            x, y, z = index[inside].astype(int).T
            lost += bool(inside.any()) and not (result[z, y, x] == label).any()
            points += len(part)
            outside += int(np.count_nonzero(~inside))
        volumes = float(voxels * before), float(kept.get(label, 0) * after)
        yield label, Fate(len(parts), lost, points, outside, *volumes)


def losses(found: Sequence[tuple[str, Fate]]) -> list[str]:
    """Return messages about lost and cut-off structures, at most one line each."""
    lost = [
        name if fate.lost == fate.parts else f"{fate.lost} of the {fate.parts} parts of {name}"
        for name, fate in found
        if fate.lost
    ]
    cut = [
        f"{name} ({percent:.0f} % of it)"
        for name, fate in found
        if (percent := 100.0 * fate.outside / fate.points) > MORE_THAN_A_LITTLE
    ]
    messages = []
    if lost:
        messages.append(
            f"Lost, because smaller than the voxels of the reference: {_listed(lost)}; give a --spacing, or a finer "
            "--reference."
        )
    if cut:
        messages.append(
            f"Cut off, because outside the reference: {_listed(cut)}; give a larger --reference, or an --extent."
        )
    return messages


def volumes(found: Sequence[tuple[str, Fate]]) -> str:
    """Say the volume of each structure before and after."""
    words = []
    for name, fate in found:
        digits, percent = 1 if fate.before_mm3 < 100.0 else 0, 100.0 * (fate.after_mm3 / fate.before_mm3 - 1.0)
        words.append(f"{name} {fate.before_mm3:.{digits}f} and {fate.after_mm3:.{digits}f} mm³ ({percent:+.0f} %)")
    return f"Volumes before and after: {_listed(words)}."


def _windows(labels: sitk.Image) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield each label with its bounding box in the array, indexed (z, y, x)."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(labels)
    for label in statistics.GetLabels():
        box = np.array(statistics.GetBoundingBox(label)).reshape(2, 3)[:, ::-1]
        yield label, tuple(slice(int(start), int(start + size)) for start, size in box.T)


def _parts(inside: np.ndarray) -> list[np.ndarray]:
    """Return the voxels (N, 3) of each connected part of a mask; all together if there are many specks."""
    numbers, count = ndimage.label(inside, _ANY_CONTACT)
    if count > _MOST_PARTS:
        return [np.argwhere(inside)]
    windows = ndimage.find_objects(numbers)
    return [
        np.argwhere(numbers[window] == number) + [side.start for side in window]
        for number, window in enumerate(windows, start=1)
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
