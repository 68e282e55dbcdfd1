"""Propagation of volumes and label maps by a finished registration, with warnings about losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from ..io.segmentations import Segmentation, check_marked
from ..io.units import set_units, units_of
from ..runtime.progress import Note
from ..spatial.checks import check_grid
from ..spatial.points import physical_points, transform_points
from ..spatial.warping import finite_float, warp_image, warp_labels
from .extent import outside_percent
from .foreground import find_foreground
from .lattice import finer_lattice
from .modality import guess_modality

_LITTLE_COVERED = 0.5
_CUT_OFF_PERCENT = 1.0
_MOST_PARTS = 200
_POINTS_A_PART = 400
_MOST_NAMED = 8
_ANY_CONTACT = np.ones((3, 3, 3))


def propagate_image(
    image: sitk.Image, reference: sitk.Image, transform: sitk.Transform, interpolation: str, messages: list[str]
) -> sitk.Image:
    """Resample a volume onto the grid of a reference.

    Args:
        image: 3D volume of numbers, colours, vectors or complex numbers.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the image, LPS mm.
        interpolation: see `warp_image`.
        messages: warnings are appended.

    Raises:
        InputError: one of the two is not a 3D volume, or they do not overlap.
    """
    check_grid(reference, "reference", any_voxels=True)
    check_grid(image, "given", any_voxels=True)
    _check_finite(image)
    covered = _covered_share(image, reference, transform)
    if covered == 0.0:
        _refuse_apart("volume")
    if covered < _LITTLE_COVERED:
        messages.append(
            f"The given volume covers only {100.0 * covered:.1f} % of the reference; the rest is filled with its "
            "minimum."
        )
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        messages.append(
            f"The {components} components of each voxel were resampled independently; vectors such as displacements "
            "or gradients were not reoriented."
        )
    result = warp_image(image, reference, transform, interpolation)
    set_units(result, units_of(image))
    if _is_uniform(result) and not _is_uniform(image):
        messages.insert(0, "The result is empty: only background of the given volume lies within the reference.")
    return result


def say_what_is_outside(image: sitk.Image, grid: sitk.Image, inverse: sitk.Transform, messages: list[str]) -> None:
    """Append how much of the patient in a volume lies outside a grid, if it is more than a little.

    Args:
        image: 3D volume; nothing is said of colours, vectors and complex numbers.
        grid: an image on the grid it was warped to.
        inverse: maps a point of the volume to a point of the grid, LPS mm.
        messages: the sentence is appended.
    """
    if image.GetNumberOfComponentsPerPixel() > 1 or "complex" in image.GetPixelIDTypeAsString():
        return
    finite = finite_float(image)
    percent = outside_percent(find_foreground(finite, guess_modality(finite)), grid, inverse)
    if percent > _CUT_OFF_PERCENT:
        messages.append(Note(outside_message(percent, "given", "reference")))


def outside_message(percent: float, role: str, where: str) -> str:
    """Return the sentence on how much of the patient in a volume lies outside a grid."""
    return (
        f"{percent:.0f} % of the patient in the {role} volume lies outside the {where}; --extent union keeps it in "
        "the warped volume."
    )


def propagate_segmentation(
    segmentation: Segmentation,
    reference: sitk.Image,
    transform: sitk.Transform,
    inverse: sitk.Transform,
    messages: list[str],
    *,
    own_lattice: bool = False,
) -> Segmentation:
    """Resample label maps onto the grid of a reference; report their volumes, and which are lost or cut off.

    Args:
        segmentation: the label maps.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the label map, LPS mm.
        inverse: maps a point of the label map to a point of the reference.
        messages: warnings are appended.
        own_lattice: where the voxels of the reference are larger than those of the label maps, divide them, and cover
            only the structures.

    Raises:
        InputError: the reference is not a 3D volume, or the label map is empty or does not overlap with it.
    """
    check_grid(reference, "reference", any_voxels=True)
    check_marked(segmentation, "given label map")
    finer = None
    if own_lattice:
        marked = segmentation.label_map() != 0
        finer = finer_lattice(segmentation.layers[0], marked, reference, transform, inverse)
    if finer is not None:
        messages.append(Note(_finer_message(finer)))
    grid = reference if finer is None else finer
    layers = [warp_labels(layer, grid, transform, smooth=finer is None) for layer in segmentation.layers]
    found = [
        (segmentation.name_of(number, label), fate)
        for number, (layer, carried) in enumerate(zip(segmentation.layers, layers, strict=True))
        for label, fate in _fates(layer, carried, inverse)
    ]
    if all(fate.outside == fate.points for _, fate in found):
        _refuse_apart("label map")
    messages += _losses(found)
    messages.append(Note(_volumes(found)))
    return replace(segmentation, layers=tuple(layers))


def _refuse_apart(what: str) -> None:
    msg = (
        f"The given {what} does not overlap with the reference after warping, so the result would be empty; check "
        "--direction, --reference and the files."
    )
    raise InputError(msg)


def _check_finite(image: sitk.Image) -> None:
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind in "fc" and not np.isfinite(values).any():
        msg = "The given volume has no finite value (all NaN or infinite); export it again."
        raise InputError(msg)


def _is_uniform(image: sitk.Image) -> bool:
    values = sitk.GetArrayViewFromImage(image)
    first = values[(0, 0, 0)]
    return bool((values == first).all())


def _covered_share(image: sitk.Image, reference: sitk.Image, transform: sitk.Transform) -> float:
    """Return the fraction of the reference's voxels in the field of view of an image."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    inside = sitk.Resample(ones, reference, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return float(np.mean(sitk.GetArrayViewFromImage(inside)))


@dataclass(frozen=True)
class _Fate:
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


def _fates(labels: sitk.Image, carried: sitk.Image, inverse: sitk.Transform) -> Iterator[tuple[int, _Fate]]:
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
        yield label, _Fate(len(parts), lost, points, outside, *volumes)


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


def _losses(found: Sequence[tuple[str, _Fate]]) -> list[str]:
    """Return messages about lost and cut-off structures, at most one line each."""
    lost = [
        name if fate.lost == fate.parts else f"{fate.lost} of the {fate.parts} parts of {name}"
        for name, fate in found
        if fate.lost
    ]
    cut = [
        f"{name} ({percent:.0f} % of it)"
        for name, fate in found
        if (percent := 100.0 * fate.outside / fate.points) > _CUT_OFF_PERCENT
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


def _volumes(found: Sequence[tuple[str, _Fate]]) -> str:
    """Say the volume of each structure before and after."""
    words = []
    for name, fate in found:
        digits, percent = 1 if fate.before_mm3 < 100.0 else 0, 100.0 * (fate.after_mm3 / fate.before_mm3 - 1.0)
        words.append(f"{name} {fate.before_mm3:.{digits}f} and {fate.after_mm3:.{digits}f} mm³ ({percent:+.0f} %)")
    return f"Volumes before and after: {_listed(words)}."


def _finer_message(lattice: sitk.Image) -> str:
    sizes = " x ".join(f"{edge:.2g}" for edge in lattice.GetSpacing())
    return (
        f"The structures were carried to voxels of their own, {sizes} mm, since those of the reference are larger "
        "than those they were drawn on."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
