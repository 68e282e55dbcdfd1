"""What a phantom consists of: two volumes, their masks and the truth between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

TASKS = ("longitudinal", "cross-sequence", "lesion", "pet-ct-to-mri")
LABELS: Mapping[str, int] = MappingProxyType({"breast": 1, "fibroglandular": 2, "organ": 3, "lesion": 4})


@dataclass(frozen=True)
class PhantomCase:
    """One pair with its truth. All points and vectors are LPS mm.

    Attributes:
        task: one of TASKS.
        seed: the seed it was drawn from.
        fixed: MR volume, float32.
        moving: MR volume (float32), or CT in HU (int16) for "pet-ct-to-mri".
        fixed_labels: uint8 masks on the fixed grid: "body", "breast" (gland and lesion included),
            "fibroglandular", "organ" (heart and liver) and, where there is one, "lesion".
        moving_labels: the same on the moving grid.
        displacement: vector float64 on the fixed grid, T(x) - x in mm: moving point minus fixed point.
        fixed_landmarks: (N, 3) points inside the body.
        moving_landmarks: (N, 3) the same anatomical points in the moving volume, T(fixed_landmarks).
        pet: SUV, float32, on its own grid in the moving CT's space; None for the other tasks.
        sequences: how the fixed and the moving volume were acquired, such as "t1-fs", "t2" or "ct".
        density: part of the breasts' volume that is fibroglandular.
    """

    task: str
    seed: int
    fixed: sitk.Image
    moving: sitk.Image
    fixed_labels: Mapping[str, sitk.Image]
    moving_labels: Mapping[str, sitk.Image]
    displacement: sitk.Image
    fixed_landmarks: NDArray[np.float64]
    moving_landmarks: NDArray[np.float64]
    pet: sitk.Image | None
    sequences: tuple[str, str]
    density: float

    def labelmap(self, side: Literal["fixed", "moving"]) -> sitk.Image:
        """One uint8 label map with the values of LABELS, background 0.

        A voxel of several targets takes the most specific: lesion, then fibroglandular, then breast. So label
        1 alone is the breast's fat and skin; the whole breast is 1, 2 and 4 together.

        Args:
            side: "fixed" or "moving".
        """
        masks = {"fixed": self.fixed_labels, "moving": self.moving_labels}[side]
        image = masks["breast"] * 0
        for name, value in LABELS.items():
            if name in masks:
                image = sitk.Mask(image, masks[name], outsideValue=0, maskingValue=1) + masks[name] * value
        return image
