"""Measure the peak memory of ConvexAdam on 512 x 512 x 512 working voxels with 12 channels.

    make memory

The features are made in place on the grid of the instance optimisation (256 x 256 x 256), as the slice loop
delivers them; a few iterations of Adam are run, since every iteration takes the same memory.
"""

from __future__ import annotations

import argparse
import time

import torch

from FoundationRegistrationLib import Settings
from FoundationRegistrationLib.convex_adam import convex_adam
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.stages import Volumes, step_names
from FoundationRegistrationLib.runtime.device import peak_memory_bytes
from FoundationRegistrationLib.runtime.progress import Progress


def main() -> None:
    """Run and print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="working voxels along each axis")
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=3)
    arguments = parser.parse_args()
    settings = Settings.from_preset("convexadam", iterations=arguments.iterations)
    cells = arguments.size // settings.adam_grid_spacing
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.channels, cells, cells, cells)
    fixed = torch.rand(shape, generator=generator)
    moving = fixed.roll(3, dims=3)
    before = peak_memory_bytes(torch.device("cpu"))["host"]
    began = time.perf_counter()
    stages = stages_of(settings)
    volumes = Volumes(((fixed, moving),), 1.0, settings.adam_grid_spacing)
    convex_adam(volumes, stages, Progress(dict.fromkeys(step_names(stages), 1.0)))
    seconds = time.perf_counter() - began
    peak = peak_memory_bytes(torch.device("cpu"))["host"]
    print(  # noqa: T201 - the result of a script
        f"{arguments.size}^3 voxels, {arguments.channels} channels: peak {peak / 1e9:.2f} GB, of it "
        f"{before / 1e9:.2f} GB before ConvexAdam (the features and the libraries); {seconds:.0f} s "
        f"with {arguments.iterations} iterations"
    )


if __name__ == "__main__":
    main()
