"""What a case is: two volumes, what is known about them, and where they come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from .masks import fixed_mask


@dataclass(frozen=True)
class Case:
    """One pair with its truth. Points are LPS mm; every truth may lie on a grid of its own in its volume's space.

    Attributes:
        fixed: fixed volume.
        moving: moving volume.
        body: uint8 mask in fixed space, where the Jacobian is looked at.
        preset: the preset of ours that is made for such a pair.
        spacing_mm: voxel edge at which ours and convexAdam work.
        initialization: how the start is found, as in `Settings.initialization`; "none" where both share one frame.
        fixed_labels: label images in fixed space, by structure; Dice is the mean over an image's labels.
        moving_labels: the same structures in moving space.
        fixed_points: (N, 3), or None where no point is known.
        moving_points: (N, 3), where those points are in the moving volume.
        moving_lesion: uint8 mask in moving space of a lesion whose volume is to be kept.
        change: uint8 mask in fixed space of tissue that changed between the dates.
        true_transform: fixed to moving points; None where it is not known everywhere.
        facts: what the plots group the cases by, such as the moving sequence.
    """

    fixed: sitk.Image
    moving: sitk.Image
    body: sitk.Image
    preset: str
    spacing_mm: float = 2.0
    initialization: str = "affine"
    fixed_labels: Mapping[str, sitk.Image] = field(default_factory=dict)
    moving_labels: Mapping[str, sitk.Image] = field(default_factory=dict)
    fixed_points: np.ndarray | None = None
    moving_points: np.ndarray | None = None
    moving_lesion: sitk.Image | None = None
    change: sitk.Image | None = None
    true_transform: sitk.Transform | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)

    @functools.cached_property
    def fixed_mask(self) -> sitk.Image:
        """The mask in fixed space that every program gets which takes one: uint8, on the fixed grid."""
        return fixed_mask(self.fixed)


@dataclass(frozen=True)
class CaseSource:
    """A case that can be made when it is needed.

    Attributes:
        name: unique, fit for a file name.
        group: the table it belongs to.
        build: makes the case.
        has_lesion: whether the case has a `moving_lesion`.
        has_ceiling: whether its labels are of two annotators, who disagree even under its `true_transform`.
        missing: why it cannot be made here and how to change that; empty if it can.
    """

    name: str
    group: str
    build: Callable[[], Case]
    has_lesion: bool = False
    has_ceiling: bool = False
    missing: str = ""
