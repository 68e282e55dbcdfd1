"""Structures of two segmentations paired by name or by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .segmentations import Segmentation


@dataclass(frozen=True, eq=False)
class PairedLabels:
    """Corresponding structures of two segmentations.

    Attributes:
        fixed: in fixed space.
        moving: in moving space.
        values: one label per name; empty if structures are paired by label value.
    """

    fixed: Segmentation
    moving: Segmentation
    values: Mapping[str, int]

    @property
    def pairs(self) -> Iterator[tuple[sitk.Image, sitk.Image]]:
        """Fixed and moving label maps of all structures or, if segments overlap, of each one."""
        if self.values and (self.fixed.overlaps or self.moving.overlaps):
            yield from (self._maps({name: value}) for name, value in self.values.items())
        else:
            yield self.drawn

    @property
    def drawn(self) -> tuple[sitk.Image, sitk.Image]:
        """One label map per side; a later structure overwrites an earlier one."""
        return self._maps(self.values) if self.values else (self.fixed.layers[0], self.moving.layers[0])

    def _maps(self, values: Mapping[str, int]) -> tuple[sitk.Image, sitk.Image]:
        return _valued(self.fixed, values), _valued(self.moving, values)


def paired_labels(fixed: Segmentation, moving: Segmentation, messages: list[str]) -> PairedLabels:
    """Pair structures by name if both files give names, else by label value.

    Names that differ in case and blanks alone belong together, unless another is the same.

    Args:
        fixed: in fixed space.
        moving: in moving space.
        messages: warnings are appended.

    Raises:
        InputError: a name is missing or repeated, none is shared, or segments overlap and one file has no names.
    """
    if fixed.segments and moving.segments:
        names = {"fixed": _names(fixed, "fixed"), "moving": _names(moving, "moving")}
        alike = _alike(names["moving"], names["fixed"])
        if alike:
            said = ", ".join(f"'{name}' with '{other}'" for name, other in alike.items())
            messages.append(f"Paired although their names are spelt differently: {said}.")
            moving = _renamed(moving, alike)
            names["moving"] = [alike.get(name, name) for name in names["moving"]]
        if not set(names["fixed"]) & set(names["moving"]):
            said = "; ".join(f"{side}: {', '.join(of_side)}" for side, of_side in names.items())
            msg = f"The two segmentations share no name ({said}); give a structure the same name in both."
            raise InputError(msg)
        return PairedLabels(fixed, moving, _values([*names["fixed"], *names["moving"]], fixed))
    for side, segmentation in (("fixed", fixed), ("moving", moving)):
        if segmentation.overlaps:
            msg = (
                f"The segments of the {side} label map overlap and must be paired by name, but the other file has no "
                "names; give a .seg.nrrd for both."
            )
            raise InputError(msg)
    if fixed.segments or moving.segments:
        messages.append("Only one of the two label maps has names: structures are paired by their label values.")
    return PairedLabels(fixed, moving, {})


def _names(segmentation: Segmentation, side: str) -> list[str]:
    names: list[str] = []
    for segment in segmentation.segments:
        if not segment.name or segment.name in names:
            what = f"two segments named '{segment.name}'" if segment.name else "a segment without a name"
            msg = f"The {side} segmentation has {what}; give every segment a unique name."
            raise InputError(msg)
        names.append(segment.name)
    return names


def _alike(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Return which names are some of the others but for case and blanks, each of only one."""

    def spelt(those: Sequence[str], but: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in those:
            if name not in but:
                found.setdefault("".join(name.split()).casefold(), []).append(name)
        return found

    theirs = spelt(others, names)
    ours = spelt(names, others)
    return {here[0]: theirs[key][0] for key, here in ours.items() if len(here) == 1 and len(theirs.get(key, ())) == 1}


def _renamed(segmentation: Segmentation, names: Mapping[str, str]) -> Segmentation:
    segments = (
        replace(segment, fields={**segment.fields, "Name": names.get(segment.name, segment.name)})
        for segment in segmentation.segments
    )
    return replace(segmentation, segments=tuple(segments))


def _values(names: Sequence[str], fixed: Segmentation) -> dict[str, int]:
    """Return a label per name: the fixed labels if they are unique."""
    values = {} if fixed.overlaps else {segment.name: segment.label for segment in fixed.segments}
    for name in names:
        values.setdefault(name, 1 + max([0, *values.values()]))
    return values


def _valued(segmentation: Segmentation, values: Mapping[str, int]) -> sitk.Image:
    """Return a label map of the named structures with these values."""
    array = np.zeros(segmentation.layers[0].GetSize()[::-1], np.int32)
    for segment in segmentation.segments:
        if segment.name in values:
            inside = sitk.GetArrayViewFromImage(segmentation.layers[segment.layer]) == segment.label
            array[inside] = values[segment.name]
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(segmentation.layers[0])
    return image
