"""Measure what encoding takes: memory with many slices, and time when the same pair is registered again.

    python Testing/benchmarks/encoding.py memory
    python Testing/benchmarks/encoding.py cache

"memory" encodes 200 slices of 512 x 512 of two volumes with an encoder of the shapes of SAM ViT-B (1024 x 1024
pixels in, 64 x 64 tokens of 256 features out) whose network is a single layer, so that the minutes of the real one
are spared and all that is measured is what the library keeps. Each figure is the peak of a process of its own.

"cache" registers a phantom twice with LiteMedSAM, the second time with another lambda, in an empty cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.encoders.base import network_input
from FoundationRegistrationLib.features import TOKEN_BUDGET_BYTES, EncoderSource, extract_features
from FoundationRegistrationLib.features.cache import CACHE_VARIABLE
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.runtime.device import peak_memory_bytes
from FoundationRegistrationLib.runtime.progress import Progress

_CPU = torch.device("cpu")
_STAGES = ("volumes", "one batch", "all slices")


class SamShapes:
    """SAM's input and output with a single layer between them."""

    weights_sha256 = None
    reach = 0

    def __init__(self) -> None:
        self._weight = torch.randn(256, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 28

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, 256, 64, 64)."""
        return F.conv2d(network_input(images, 1024), self._weight, stride=16)


def encode_up_to(stage: str, slices: int, size: int) -> None:
    """Do what a stage of the memory measurement says and print the peak of this process in bytes."""
    generator = torch.Generator().manual_seed(0)
    volumes = [torch.rand((slices, size, size), generator=generator) for _ in range(2)]
    mask = torch.ones(slices, size, size)
    encoder = SamShapes()
    if stage == "one batch":
        encoder.encode(volumes[0][:2])
    if stage == "all slices":
        info = dataclasses.replace(encoder_info("litemedsam"), name="sam shapes", components=3)
        settings = Settings(slice_gap=1, precision="float32")
        source = EncoderSource(info, lambda device: encoder, "")
        extract_features(source, *volumes, mask, mask, settings, Progress({"encoding": 1.0}))
    sys.stdout.write(str(peak_memory_bytes(_CPU)["host"]))


def measure_memory(slices: int, size: int) -> str:
    """Return one line: the peak with all slices, and what it may be."""
    peaks = []
    for stage in _STAGES:
        command = [sys.executable, __file__, "memory", "--stage", stage]
        command += ["--slices", str(slices), "--size", str(size)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    cells = -(-slices // 2) * (-(-size // 2)) ** 2
    reduced = 2 * 3 * 4 * (slices * 64**2 + cells)
    tokens = 2 * slices * 256 * 64**2 * 4
    parts = {
        "libraries and volumes": peaks[0],
        "model and one batch": peaks[1] - peaks[0],
        "reduced features": reduced,
        "budget": TOKEN_BUDGET_BYTES,
    }
    listed = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in parts.items())
    return (
        f"2 x {slices} slices of {size}^2: peak {peaks[2] / 1e9:.2f} GB; allowed {sum(parts.values()) / 1e9:.2f} GB "
        f"({listed}); all tokens in float32 would be {tokens / 1e9:.2f} GB"
    )


def measure_cache(spacing_mm: float, slice_gap: int) -> str:
    """Return one line: seconds of the first and of the second registration of a pair."""
    case = make_phantom("longitudinal", 0, spacing_mm=2.0, difficulty="easy")
    settings = Settings(working_spacing_mm=spacing_mm, slice_gap=slice_gap)
    seconds, encoding, taken = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        for regularization in (1.25, 2.0):
            began = time.perf_counter()
            result = register(case.fixed, case.moving, dataclasses.replace(settings, regularization=regularization))
            seconds.append(time.perf_counter() - began)
            encoding.append(result.timings["encoding"])
            taken.append(result.metrics["features_from_cache"])
    if taken != [False, True]:
        msg = f"The cache was not used as expected: {taken}."
        raise RuntimeError(msg)
    return (
        f"{spacing_mm:g} mm, every {slice_gap}. slice: first {seconds[0]:.0f} s (encoding {encoding[0]:.0f} s), "
        f"again with another lambda {seconds[1]:.0f} s (encoding {encoding[1]:.1f} s): {seconds[1] / seconds[0]:.2f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("memory", "cache"))
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--working-spacing-mm", type=float, default=2.0)
    parser.add_argument("--slice-gap", type=int, default=2)
    parser.add_argument("--stage", choices=_STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        encode_up_to(arguments.stage, arguments.slices, arguments.size)
    elif arguments.part == "memory":
        print(measure_memory(arguments.slices, arguments.size))  # noqa: T201 - the result of a script
    else:
        print(measure_cache(arguments.working_spacing_mm, arguments.slice_gap))  # noqa: T201 - the result of a script


if __name__ == "__main__":
    main()
