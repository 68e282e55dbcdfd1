"""What `gpu.py` measures, block by block, each a function that yields lines of its tables."""

from __future__ import annotations

import dataclasses
import functools
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from as_the_package import as_the_package
from convex_adam import covering_grid
from convexAdam.convex_adam_MIND import convex_adam_pt
from encoders import in_precision, in_turns, sam, slice_through
from supervised import reason_of
from unet import UNet, VolumeEncoder

import FoundationRegistrationLib
from FoundationRegistrationLib import RegistrationResult, Settings, register
from FoundationRegistrationLib.encoders import Encoder, encoder_info
from FoundationRegistrationLib.pipeline.figures import NOT_KNOWN_MM
from FoundationRegistrationLib.pipeline.preprocessing import prepare
from FoundationRegistrationLib.runtime.device import describe_device, peak_memory_bytes
from FoundationRegistrationLib.runtime.progress import ProgressEvent

CPU = torch.device("cpu")
PRECISIONS = ("float32", "bfloat16")
MOST_VOXELS_APART = 0.02
MOST_FEATURES_APART = 1e-3
MOST_MIND_SECONDS = 3.0
MOST_SAM_SECONDS = 6.0
LEAST_SPEED_UP = 3.0
_AIR = 0.1  # intensities of air are below it, of 0..1
_LEAST_VOXELS = 36  # along each axis, of what ConvexAdam can search


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
    compared = sitk.GetArrayFromImage(first.confidence) < NOT_KNOWN_MM
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
    """Register with a 3D U-Net of about the size of anatomix, in both precisions."""
    torch.manual_seed(0)
    network = UNet(case.sizes.unet_width, case.sizes.unet_levels).to(case.device)
    millions = sum(values.numel() for values in network.parameters()) / 1e6
    for precision in PRECISIONS:
        encoder = VolumeEncoder(network, getattr(torch, precision))
        _, clock = registered(case, case.device, case.sizes.working_mm, encoder)
        yield clock.row(
            f"3D U-Net, {precision}, {case.sizes.working_mm:g} mm, end to end",
            f"random weights; {millions:.1f} million of them",
        )


def segment_anything(case: Case) -> Iterator[Row | Verdict]:
    """Evaluate SAM ViT-B beside its own package, in turns, with the same weights on the same slices."""
    image = slice_through(case.volumes[0])
    plain = sam(image.to(case.device).expand(case.sizes.slices, -1, -1), case.device, case.sizes.sam_pixels)
    with torch.inference_mode():
        for precision in PRECISIONS:
            sides = plain
            if precision != "float32":
                sides = tuple(in_precision(side, getattr(torch, precision), case.device) for side in plain)
            turns = in_turns(*sides, case.sizes.repeats, case.wait)
            for name, side, seconds in zip(("ours", "segment-anything"), sides, turns.seconds, strict=True):
                case.forget_peak()
                side()
                remark = f"{case.sizes.slices} slices at once; the features differ by {turns.difference:.1e}"
                a_slice = seconds / case.sizes.slices
                yield Row(f"SAM ViT-B, {precision}, {name}, a slice", a_slice, "", case.peak_gb(), remark)
            if precision == "float32":
                yield alike("segment-anything", turns.difference)
        expected = sam(image, CPU, case.sizes.sam_pixels)[0]()
        yield alike("the CPU", float((plain[0]()[:1].cpu() - expected).norm() / expected.norm()))


def alike(other: str, difference: float) -> Verdict:
    """Return whether features in float32 are those of something else, up to rounding."""
    return Verdict(
        f"features of SAM in float32 agree with {other} to {MOST_FEATURES_APART:g} of their size",
        f"{difference:.1e}",
        difference <= MOST_FEATURES_APART,
        is_check=True,
    )


def official_same_size(case: Case) -> Iterator[Row | Verdict]:
    """Run ConvexAdam with MIND beside the official package, on the fixed volume's field of view."""
    fixed = case.volumes[0]
    extent = [size * step for size, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    # The official code cuts its grids to whole cells; whole cells of 6 voxels are what both get.
    size = [max(_LEAST_VOXELS, int(length / case.sizes.working_mm) // 6 * 6) for length in extent]
    yield from beside_official(case, size, case.sizes.repeats)


def official_cube(case: Case) -> Iterator[Row | Verdict]:
    """Run ConvexAdam with MIND, 12 channels, beside the official package on large volumes."""
    yield from beside_official(case, [case.sizes.cube] * 3, 1)


def beside_official(case: Case, size: list[int], repeats: int) -> Iterator[Row | Verdict]:
    """Run both from two volumes on the host to the field of all voxels on the host.

    The package has float16 as its default on a GPU, ours computes in float32; both precisions of it are measured.
    """
    volumes = on_common_grid(case, size)
    title = f"ConvexAdam, {' x '.join(map(str, size))}, 12 channels"

    def ours(fixed: torch.Tensor, moving: torch.Tensor) -> np.ndarray:
        return as_the_package(fixed.to(case.device), moving.to(case.device), case.sizes.working_mm).cpu().numpy()

    field, row = timed(case, f"{title}, ours, float32", ours, volumes, repeats)
    yield row
    theirs: list[float] = []
    for dtype in (torch.float32, torch.float16) if case.device.type == "cuda" else (torch.float32,):
        what = f"{title}, official, {str(dtype).removeprefix('torch.')}"
        try:
            run = functools.partial(convex_adam_pt, dtype=dtype, device=case.device)
            other, found = timed(case, what, run, volumes, repeats)
        except (RuntimeError, MemoryError) as error:  # the package may need more memory than there is
            yield Row(what, remark=f"not measured: {reason_of(error)}")
            continue
        theirs.append(found.seconds)
        apart = np.linalg.norm(other - field, axis=-1)[volumes[0].numpy() > _AIR].mean()
        yield dataclasses.replace(
            found, remark=f"{found.remark} {apart:.2f} voxel from ours on average, air left out".strip()
        )
    ratio = min(theirs) / row.seconds if theirs else 0.0
    yield Verdict(
        f"{title}: at least {LEAST_SPEED_UP:g} times as fast as the official package",
        f"{ratio:.1f} times its faster run" if theirs else "the official package did not run",
        ratio >= LEAST_SPEED_UP,
    )


def on_common_grid(case: Case, size: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both volumes, as prepared for a registration, on one grid of a size (x, y, z)."""
    fixed, moving = case.volumes
    extent = [count * step for count, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    grid = covering_grid(fixed, size, [length / count for length, count in zip(extent, size, strict=True)])
    prepared = (prepare(fixed, "mr", "fixed").image, prepare(moving, "mr", "moving").image)
    images = (
        sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32) for image in prepared
    )
    one, other = (torch.from_numpy(sitk.GetArrayFromImage(image)) for image in images)
    return one, other


def timed(
    case: Case,
    what: str,
    compute: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    volumes: tuple[torch.Tensor, torch.Tensor],
    repeats: int,
) -> tuple[np.ndarray, Row]:
    """Return what was computed and the median time, after a warm-up on a part of the volumes."""
    compute(*(volume[:_LEAST_VOXELS, :_LEAST_VOXELS, :_LEAST_VOXELS].contiguous() for volume in volumes))
    seconds = []
    case.forget_peak()
    for _ in range(repeats):
        case.wait()
        began = time.perf_counter()
        result = compute(*volumes)
        case.wait()
        seconds.append(time.perf_counter() - began)
    remark = f"median of {repeats} runs;" if repeats > 1 else ""
    return result, Row(what, statistics.median(seconds), "", case.peak_gb(), remark)


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
