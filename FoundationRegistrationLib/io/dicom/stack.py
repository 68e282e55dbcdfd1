"""Slices to one regular grid: sorted by position, then each compared with its position in the grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .headers import DISTINCTIONS, Slice

# Largest distance of a slice from its position in the grid: scanners round positions, to 0.01 mm at worst.
_SHARE_OF_VOXEL = 0.02
_ROUNDING_MM = 0.02
_MOST_OF_VOXEL = 0.1
# Tags that all slices of a volume share.
_CONSTANT = (
    *("PatientID", "FrameOfReferenceUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImageType", "FrameType", "EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "DiffusionBValue", "ConvolutionKernel", "KVP"),
    *("RescaleType", "Units", "DoseUnits"),
)
_SEPARATE = "give one volume only (dcm2niix separates them)"


@dataclass(frozen=True)
class Stack:
    """Slices in the order of the third axis, and their grid.

    Attributes:
        slices: sorted along the third axis.
        origin: centre of the first pixel of the first slice, (3,) in LPS mm.
        spacing: mm along rows, along columns and between slices.
        direction: columns are the unit vectors of the three axes in LPS, right-handed.
    """

    slices: list[Slice]
    origin: np.ndarray
    spacing: np.ndarray
    direction: np.ndarray


def stacked(slices: list[Slice]) -> Stack:
    """Sort the slices of one series and return their grid.

    Raises:
        InputError: they form no regular grid; the text says why and what to do.
    """
    axes = common_axes(slices)
    for keyword in _CONSTANT:
        _check_same(slices, keyword)
    normal = np.cross(*axes)
    slices = sorted(slices, key=lambda item: float(item.position @ normal))
    if len(slices) == 1:
        msg = "is a single slice; give the folder with all slices of the series."
        raise InputError(msg)
    spacing = np.append(slices[0].pixel_spacing, _step(slices, normal))
    stack = Stack(slices, slices[0].position, spacing, np.column_stack([*axes, normal]))
    _check_places(stack)
    return stack


def _check_kind(slices: list[Slice]) -> None:
    first = slices[0]
    colour = next((item for item in slices if not item.text("PhotometricInterpretation").startswith("MONO")), None)
    if colour is not None:
        msg = f"is in colour ({colour.name}); give the original greyscale images."
        raise InputError(msg)
    if "MOSAIC" in first.text("ImageType"):
        msg = "has all slices in one image (a Siemens mosaic); convert it, for instance with dcm2niix."
        raise InputError(msg)
    if any("ModalityLUTSequence" in item.values for item in slices):
        msg = "maps its values with a lookup table, which is not supported; export it with RescaleSlope or as NIfTI."
        raise InputError(msg)


def _check_same_size(slices: list[Slice]) -> None:
    sizes = Counter(item.size for item in slices)
    if len(sizes) > 1:
        (usual, _), *_, (odd, _) = sizes.most_common()
        name = next(item.name for item in slices if item.size == odd)
        msg = f"has slices of {usual[0]} x {usual[1]} and of {odd[0]} x {odd[1]} pixels ({name}); {_SEPARATE}."
        raise InputError(msg)
    spacings = np.array([item.pixel_spacing for item in slices])
    usual_spacing = np.median(spacings, axis=0)
    off = np.abs(spacings - usual_spacing).max(axis=1) * max(slices[0].size)
    if off.max() > _tolerance_mm(usual_spacing):
        worst = int(off.argmax())
        a, b = (" x ".join(f"{v:g}" for v in values) for values in (usual_spacing, spacings[worst]))
        msg = f"has pixels of {a} mm and of {b} mm ({slices[worst].name}); {_SEPARATE}."
        raise InputError(msg)


def common_axes(slices: list[Slice]) -> np.ndarray:
    """Return the row and column directions of slices of one kind and size, (2, 3).

    Raises:
        InputError: they are not greyscale slices of one size, or one lies in another plane.
    """
    _check_kind(slices)
    _check_same_size(slices)
    axes = np.array([item.axes for item in slices])
    votes = Counter(map(tuple, axes.round(2).reshape(-1, 6)))
    usual = axes[(axes.round(2).reshape(-1, 6) == votes.most_common(1)[0][0]).all(axis=1)][0]
    reach = float((slices[0].pixel_spacing * slices[0].size).max())
    off = np.linalg.norm(axes - usual, axis=2).max(axis=1) * reach
    other = off > _tolerance_mm(slices[0].pixel_spacing)
    if other.any():
        name = slices[int(other.argmax())].name
        msg = (
            f"has slices in different planes: {int(other.sum())} of {len(slices)} (such as {name}) are rotated "
            "relative to the others, like a localiser; remove them, or give a folder without them."
        )
        raise InputError(msg)
    return usual


def _check_same(slices: list[Slice], keyword: str) -> None:
    counts = Counter(item.text(keyword) for item in slices)
    if len(counts) > 1:
        rare = counts.most_common()[-1][0]
        name = next(item.name for item in slices if item.text(keyword) == rare)
        shown = ", ".join(f"{value[:60] or 'none'}: {count} slices" for value, count in counts.most_common(3))
        more = f", and {len(counts) - 3} more" if len(counts) > 3 else ""
        if keyword in ("PatientID", "FrameOfReferenceUID"):  # identifies a person, or is meaningless to one
            shown, more = f"{len(counts)} values", ""
        msg = f"mixes slices that differ in {keyword} ({shown}{more}; such as {name}); {_SEPARATE}."
        raise InputError(msg)


def check_complete(slices: list[Slice]) -> None:
    """Refuse a part of the files of a split multi-frame image.

    Raises:
        InputError: files are missing.
    """
    parts = slices[0].numbers("InConcatenationTotalNumber", 1)
    files = len({item.path for item in slices})
    if parts is not None and files < parts[0]:
        msg = f"is {files} of the {parts[0]:g} files of one volume; give the folder that holds all of them."
        raise InputError(msg)


def check_no_copies(place: list[Slice]) -> None:
    """Refuse a slice that is there twice among those of one place.

    Raises:
        InputError: there is one; both names are given.
    """
    known: dict[tuple[str, int], Slice] = {}
    for item in place:
        other = known.setdefault((item.text("SOPInstanceUID"), item.frame), item)
        if other is not item:
            places = [f"{each.name} in '{each.path.parent.name}'" for each in (other, item)]
            names = places if other.name == item.name else [other.name, item.name]
            msg = f"holds a slice twice, {names[0]} and {names[1]}; remove the duplicates."
            raise InputError(msg)


def _step(slices: list[Slice], normal: np.ndarray) -> float:
    """Return the slice spacing in mm.

    Raises:
        InputError: slices share a position, or are unequally spaced.
    """
    along = np.array([item.position @ normal for item in slices])
    steps = np.diff(along)
    shared = steps <= place_tolerance_mm(slices)
    if shared.any():
        k = int(shared.argmax())
        check_no_copies(slices[k : k + 2])
        raise InputError(_words_of_shared_place(slices[k], slices[k + 1], int(shared.sum())))
    usual = float(np.quantile(steps, 0.5, method="lower"))  # of two steps, the one without a gap
    ratio = steps / usual
    limit = _tolerance_mm(np.array([usual])) / usual
    missing = int(np.round(ratio).sum()) - len(steps)
    if missing > 0 and ratio.min() > 0.5 and np.abs(ratio - np.round(ratio)).max() <= 2 * limit:
        k = int(ratio.argmax())
        places = "slice is" if missing == 1 else "slices are"
        msg = f"has gaps: {missing} {places} missing, {_gap(slices, k, steps)}; copy the series again in full."
        raise InputError(msg)
    step = (along[-1] - along[0]) / len(steps)
    if np.abs(along - along[0] - step * np.arange(len(along))).max() > limit * step:
        k = int(np.abs(steps - usual).argmax())
        msg = (
            f"has unequally spaced slices, {steps.min():.4g} to {steps.max():.4g} mm ({_gap(slices, k, steps)}); "
            f"complete it, or resample it to equal spacing first (dcm2niix does)."
        )
        raise InputError(msg)
    return float(step)


def _gap(slices: list[Slice], k: int, steps: np.ndarray) -> str:
    return f"{steps[k]:.4g} mm from {slices[k].name} to {slices[k + 1].name}"


def _words_of_shared_place(first: Slice, second: Slice, count: int) -> str:
    keyword = next((keyword for keyword in DISTINCTIONS if first.text(keyword) != second.text(keyword)), None)
    values = f" ({first.text(keyword)[:60] or 'none'} and {second.text(keyword)[:60] or 'none'})" if keyword else ""
    told = f"which differ in {keyword}{values}" if keyword else "and nothing distinguishes them"
    return f"holds several images at {count} positions, such as {first.name} and {second.name}, {told}; {_SEPARATE}."


def _check_places(stack: Stack) -> None:
    """Compare the corners of each slice with its corners in the grid.

    Raises:
        InputError: the slices are sheared or shifted relative to one another.
    """
    columns, rows = stack.slices[0].size
    corners = np.array([(i, j) for i in (0, columns - 1) for j in (0, rows - 1)], dtype=float)
    to_index = np.linalg.inv(stack.direction * stack.spacing)
    limit = np.clip(_ROUNDING_MM / stack.spacing, _SHARE_OF_VOXEL, _MOST_OF_VOXEL)
    off = np.empty((len(stack.slices), 3))
    for k, item in enumerate(stack.slices):
        points = item.position + (corners * item.pixel_spacing) @ item.axes
        place = np.column_stack([corners, np.full(len(corners), k)])
        off[k] = np.abs((points - stack.origin) @ to_index.T - place).max(axis=0)
    if (off <= limit).all():
        return
    raise InputError(_words_of_shift(stack))


def _words_of_shift(stack: Stack) -> str:
    offsets = np.array([item.position - stack.origin for item in stack.slices])
    sideways = offsets - np.outer(offsets @ stack.direction[:, 2], stack.direction[:, 2])
    shear = np.linspace(0, 1, len(offsets))[:, None] * sideways[-1]
    largest = float(np.linalg.norm(sideways, axis=1).max())
    if np.linalg.norm(sideways - shear, axis=1).max() < 0.1 * largest:
        angle = np.degrees(np.arctan2(largest, offsets[-1] @ stack.direction[:, 2]))
        what = f"is sheared: its slices are stacked at {angle:.2g}° (gantry tilt), up to {largest:.2g} mm"
    else:
        away = np.linalg.norm(sideways - np.median(sideways, axis=0), axis=1)
        what = f"has slices shifted sideways: {stack.slices[int(away.argmax())].name} is {away.max():.2g} mm"
    return f"{what} off a regular grid; resample it to one first (dcm2niix does) and give the NIfTI file."


def place_tolerance_mm(slices: list[Slice]) -> float:
    """Return the distance along the normal up to which slices share a place."""
    return _tolerance_mm(slices[0].pixel_spacing) / 2


def _tolerance_mm(spacing: np.ndarray) -> float:
    edge = float(spacing.min())
    return edge * float(np.clip(_ROUNDING_MM / edge, _SHARE_OF_VOXEL, _MOST_OF_VOXEL))


def doubts(stacks: Sequence[Stack]) -> list[str]:
    """Return warnings that the files may not form complete volumes of one place, the most serious first."""
    slices = stacks[0].slices
    said = [*_lacking(stacks)]
    acquisitions = max((found for stack in stacks if (found := _acquisitions(stack)) < len(stack.slices)), default=1)
    if acquisitions > 1:
        said.append(f"comes from {acquisitions} acquisitions (AcquisitionNumber); check that they belong together.")
    if slices[0].text("PhotometricInterpretation") == "MONOCHROME1":
        said.append("is displayed inverted (MONOCHROME1); its stored values were used.")
    if any(item.text("LossyImageCompression") == "01" for item in slices):
        said.append("was compressed with loss (LossyImageCompression); its values are not those that were measured.")
    return said


def _acquisitions(stack: Stack) -> int:
    return len({item.text("AcquisitionNumber") for item in stack.slices})


def _lacking(stacks: Sequence[Stack]) -> Iterator[str]:
    """Yield why slices may be missing at an end of the stack, where positions cannot reveal it."""
    slices = [item for stack in stacks for item in stack.slices]
    numbers = [item.numbers("InstanceNumber", 1) for item in slices if item.frames == 1]
    found = sorted({int(value[0]) for value in numbers if value is not None})
    if len(stacks) > 1 and len(found) < len(slices):  # numbered anew in every volume
        found = []
    if found and found[-1] - found[0] >= len(found):
        absent = found[-1] - found[0] + 1 - len(found)
        yield f"may lack slices: {absent} of slice numbers {found[0]} to {found[-1]} are missing; check its ends."
    elif found and found[0] > 1:
        yield f"may lack slices: its slice numbers begin at {found[0]}; check its ends."
    for keyword, there in (("ImagesInAcquisition", len(slices)), ("NumberOfSlices", len(stacks[0].slices))):
        count = slices[0].numbers(keyword, 1)
        if count is not None and count[0] > there:
            yield f"may lack slices: it has {there}, but {keyword} is {count[0]:g}; check its ends."
