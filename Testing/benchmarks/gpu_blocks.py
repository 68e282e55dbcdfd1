"""What `gpu.py` measures, block by block: each yields lines of its tables. Whole registrations are here."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
import torch
from gpu_beside import official_cube, official_same_size, segment_anything
from gpu_case import CPU, PRECISIONS, Case, Row, Verdict
from unet import VolumeEncoder

import FoundationRegistrationLib
from FoundationRegistrationLib import RegistrationResult, Settings, register
from FoundationRegistrationLib.encoders import Encoder, encoder_info
from FoundationRegistrationLib.encoders.networks.unet3d import Architecture, UNet3d
from FoundationRegistrationLib.runtime.device import describe_device
from FoundationRegistrationLib.runtime.progress import ProgressEvent

MOST_VOXELS_APART = 0.02
MOST_MIND_SECONDS = 3.0
MOST_SAM_SECONDS = 6.0


class Clock:
    """Seconds and peak memory of a registration, by stage; the device is waited for where one stage ends.

    It is the `progress` of `register`. `result.timings` does not wait, so that there a stage may count work of the
    one before it.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._step = ""
        self.stages: dict[str, float] = {}
        self.peak_gb = 0.0
        case.forget_peak()
        case.wait()
        self._began = self._last = time.perf_counter()

    def __call__(self, event: ProgressEvent) -> None:
        """Note the end of a stage."""
        if event.step != self._step:
            self.note()
            self._step = "" if event.step == "done" else event.step

    def note(self) -> float:
        """Close the stage that is open; return the seconds since the beginning."""
        self._case.wait()
        now = time.perf_counter()
        self.peak_gb = max(self.peak_gb, self._case.peak_gb())
        if self._step:
            self.stages[self._step] = self.stages.get(self._step, 0.0) + now - self._last
        self._last = now
        return now - self._began

    def row(self, what: str, remark: str = "") -> Row:
        """Return what was measured until now."""
        total = self.note()
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.stages.items())
        return Row(what, total, stages, self.peak_gb, remark)


def registered(
    case: Case, device: torch.device, working_mm: float, encoder: Encoder | str = "mind", **values: object
) -> tuple[RegistrationResult, Clock]:
    """Register the pair with the preset "default"; nothing is taken from earlier runs."""
    name = encoder if isinstance(encoder, str) else "mind"  # an object takes the place of the one that is named
    settings = Settings.from_preset(
        "default",
        encoder=name,
        device=device.type,
        working_spacing_mm=working_mm,
        feature_cache_gb=0.0,
        **values,
    )
    clock = Clock(dataclasses.replace(case, device=device))
    given = {} if isinstance(encoder, str) else {"encoder": encoder}
    return register(*case.volumes, settings, progress=clock, **given), clock


def agreement(case: Case) -> Iterator[Row | Verdict]:
    """Compare the fields of the same run on the CPU and on the device."""
    spacing = case.sizes.agreement_mm
    small = dataclasses.replace(case, volumes=tuple(coarser(volume, spacing) for volume in case.volumes))
    results = []
    for device in (CPU, case.device):
        result, clock = registered(small, device, spacing)
        results.append(result)
        yield clock.row(f"MIND, {spacing:g} mm, {device.type}", "for the agreement; libraries warm up in it")
    apart = voxels_apart(*results, spacing)
    yield Verdict(
        f"CPU and {case.device.type} agree to {MOST_VOXELS_APART:g} voxel on average",
        f"mean {apart.mean():.4f}, 99 % of voxels below {np.percentile(apart, 99):.3f}, at most {apart.max():.3f}",
        bool(apart.mean() <= MOST_VOXELS_APART),
        is_check=True,
    )


def coarser(volume: sitk.Image, voxel_mm: float) -> sitk.Image:
    """Return a volume with voxels averaged up to a size, where they are smaller."""
    return sitk.BinShrink(volume, [max(1, round(voxel_mm / step)) for step in volume.GetSpacing()])


def voxels_apart(first: RegistrationResult, second: RegistrationResult, voxel_mm: float) -> np.ndarray:
    """Return how far two transforms lie apart at each cell where the first run compared anything, in voxels."""
    grid = first.displacement
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(grid)
    one, other = (sitk.GetArrayFromImage(to_field.Execute(result.transform)) for result in (first, second))
    compared = ~np.isnan(sitk.GetArrayFromImage(first.expected_error))
    return np.linalg.norm(one - other, axis=-1)[compared] / voxel_mm


def mind(case: Case) -> Iterator[Row | Verdict]:
    """Register with MIND from two volumes to all results, twice: the first run also sets up libraries."""
    title = f"MIND, {case.sizes.working_mm:g} mm, end to end"
    for remark in ("first run of this size", "second run"):
        _, clock = registered(case, case.device, case.sizes.working_mm)
        row = clock.row(title, remark)
        yield row
    yield within(MOST_MIND_SECONDS, row)


def within(most: float, row: Row) -> Verdict:
    """Return whether a run took as little time as it should."""
    return Verdict(f"{row.what}: under {most:g} s", f"{row.seconds:.2f} s", row.seconds < most)


def sam_registration(case: Case) -> Iterator[Row | Verdict]:
    """Register with SAM ViT-B."""
    for row in with_slices(case, "sam", case.sizes.sam_pixels):
        yield row
        yield within(MOST_SAM_SECONDS, row)


def dinov2_registration(case: Case) -> Iterator[Row]:
    """Register with DINOv2 ViT-B/14."""
    yield from with_slices(case, "dinov2-vitb14", case.sizes.dinov2_pixels)


class Untrained:
    """A slice encoder of the list with random weights, which take as long as its own; without those of a volume's."""

    def __init__(self, name: str, pixels: int, device: torch.device) -> None:
        settings = Settings(encoder=name, input_size=pixels)
        self.encode = encoder_info(name).build_untrained(settings, device).encode


def with_slices(case: Case, name: str, pixels: int) -> Iterator[Row]:
    """Register with a slice encoder at every sixth slice, in both precisions."""
    info = encoder_info(name)
    encoder = Untrained(name, pixels, case.device)
    for precision in PRECISIONS:
        with torch.inference_mode(), torch.autocast(case.device.type, torch.bfloat16, precision == "bfloat16"):
            encoder.encode(torch.zeros((1, 64, 64), device=case.device))  # warms up
        values = {"precision": precision, "slice_gap": 6, "components": info.components}
        result, clock = registered(case, case.device, case.sizes.working_mm, encoder, **values)
        slices = sum(result.metrics["encoded_slices"].values())
        remark = f"random weights; {slices} slices of each volume, empty ones encoded once"
        yield clock.row(
            f"{info.title}, {precision}, every sixth slice, {case.sizes.working_mm:g} mm, end to end", remark
        )


def unet_registration(case: Case) -> Iterator[Row]:
    """Register with the 3D U-Net of anatomix, in both precisions."""
    torch.manual_seed(0)
    width = case.sizes.unet_width
    architecture = Architecture(width, features=width, levels=case.sizes.unet_levels, instance_norm=False)
    network = UNet3d(architecture).to(case.device)
    millions = sum(values.numel() for values in network.parameters()) / 1e6
    for precision in PRECISIONS:
        encoder = VolumeEncoder(network, getattr(torch, precision))
        _, clock = registered(case, case.device, case.sizes.working_mm, encoder)
        yield clock.row(
            f"3D U-Net, {precision}, {case.sizes.working_mm:g} mm, end to end",
            f"random weights; {millions:.1f} million of them",
        )


def machine(case: Case) -> Iterator[str]:
    """Name what it runs on, in one line."""
    cuda = ""
    if case.device.type == "cuda":
        memory = torch.cuda.get_device_properties(case.device).total_memory / 1e9
        cuda = f", {memory:.0f} GB, driver {driver_version()}, CUDA {torch.version.cuda}"
    yield (
        f"FoundationRegistration {FoundationRegistrationLib.__version__} on {describe_device(case.device)}{cuda}; "
        f"torch {torch.__version__}, Python {platform.python_version()}, {describe_device(CPU)}."
    )


def driver_version() -> str:
    """Return the version of NVIDIA's driver, as its own program says."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "not known"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.split("\n")[0]


# Seconds that each block may take, the most wanted first.
BLOCKS = {
    machine: 40.0,
    agreement: 60.0,
    mind: 40.0,
    official_same_size: 40.0,
    sam_registration: 45.0,
    segment_anything: 30.0,
    unet_registration: 45.0,
    official_cube: 70.0,
    dinov2_registration: 60.0,
}


def run_block(case: Case, name: str) -> Iterator[object]:
    """Run a block by its name."""
    block = next(block for block in BLOCKS if block.__name__ == name)
    yield from block(case)
