"""What is measured on a GPU: the pair, the sizes, and the lines of the tables."""

from __future__ import annotations

from dataclasses import dataclass

import SimpleITK as sitk
import torch

from FoundationRegistrationLib.runtime.device import peak_memory_bytes

CPU = torch.device("cpu")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        working_mm: working voxels of the registrations.
        agreement_mm: those of the run that CPU and device are compared on.
        sam_pixels: along one side of SAM's input; 0 takes its own.
        dinov2_pixels: the same for DINOv2.
        unet_width: channels of the U-Net at full resolution.
        unet_levels: how often it halves the resolution.
        cube: voxels along one side of the large volumes.
        slices: encoded together beside `segment-anything`.
        repeats: turns of what takes a moment.
    """

    working_mm: float
    agreement_mm: float
    sam_pixels: int
    dinov2_pixels: int
    unet_width: int
    unet_levels: int
    cube: int
    slices: int
    repeats: int


FULL = Sizes(1.0, 3.0, 0, 0, 16, 4, 512, 4, 3)
SMALL = Sizes(20.0, 20.0, 32, 28, 4, 2, 36, 1, 1)


@dataclass(frozen=True)
class Case:
    """The pair, the device it is measured on, and the sizes."""

    volumes: tuple[sitk.Image, sitk.Image]
    device: torch.device
    sizes: Sizes

    def wait(self) -> None:
        """Return when the device has done what it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        """Count the peak memory anew, where the device can."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self) -> float:
        """Return the peak memory of the device; on the CPU that of this process since it began."""
        peak = peak_memory_bytes(self.device)
        return peak.get("device", peak["host"]) / 1e9


@dataclass(frozen=True)
class Row:
    """One line of the table of measurements; without seconds where it was not measured."""

    what: str
    seconds: float | None = None
    stages: str = ""
    peak_gb: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Verdict:
    """A check, which must be met, or a goal, which may be missed."""

    what: str
    found: str
    met: bool
    is_check: bool = False
