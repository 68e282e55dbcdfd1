"""Measure registrations on a GPU in at most four minutes, and check that it agrees with the CPU.

    make gpu
    python Testing/benchmarks/gpu.py --output out
    python Testing/benchmarks/gpu.py --device cpu --small --output out

It needs nothing but this repository and its package with the extra "test", installed; the volumes are a phantom, the
networks have random weights, which take as long as their own. It measures MIND, SAM ViT-B, DINOv2 ViT-B and a 3D
U-Net of about the size of anatomix in whole registrations, SAM beside `segment-anything` and ConvexAdam beside the
official package, and writes `gpu.md` after each measurement, so that what was measured stays if it is stopped.

It ends with 1 where a check fails or something of this project could not be measured. A goal may be missed.
`--small` runs the same code on tiny volumes and networks; its times mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import SimpleITK as sitk
import torch
from convex_adam import covering_grid
from gpu_blocks import BLOCKS, run_block
from gpu_case import FULL, SMALL, Case, Row, Verdict
from supervised import Ended, supervised

from FoundationRegistrationLib.phantom import make_phantom

SECONDS = 230.0
_PHANTOM_MM = 1.5
_SMALL_PHANTOM_MM = 16.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the code; the times mean nothing")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="what all of it may take; each block its share"
    )
    parser.add_argument("--only", nargs="*", choices=[block.__name__ for block in BLOCKS], help="some blocks")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("No CUDA device is here; `--device cpu --small` tries the code without one.\n")
        return 1
    ends = time.monotonic() + options.seconds
    limits = {
        block.__name__: share * options.seconds / SECONDS
        for block, share in BLOCKS.items()
        if not options.only or block.__name__ in options.only
    }
    options.output.mkdir(parents=True, exist_ok=True)
    lines: list[object] = ["Tiny sizes, to try the code: the times mean nothing.\n"] if options.small else []
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), small=options.small)
        work = functools.partial(measure, Path(folder), options.device, options.small)
        for line in supervised(work, limits, ends - time.monotonic()):
            lines.append(line)
            (options.output / "gpu.md").write_text(report(lines), encoding="utf-8")
    print(report(lines))  # noqa: T201 - the result of a script
    return int(any(fails(line) for line in lines))


def write_pair(folder: Path, *, small: bool) -> None:
    """Write the pair that is registered: a phantom, in full size with voxels of about 1 mm.

    It is made with coarser voxels, since making it with such would take a minute, and interpolated.
    """
    pair = make_phantom("longitudinal", 0, spacing_mm=_SMALL_PHANTOM_MM if small else _PHANTOM_MM, difficulty="easy")
    for name, volume in (("fixed", pair.fixed), ("moving", pair.moving)):
        factor = 1.0 if small else _PHANTOM_MM
        size = [round(count * factor) for count in volume.GetSize()]
        grid = covering_grid(volume, size, [step / factor for step in volume.GetSpacing()])
        sitk.WriteImage(sitk.Resample(volume, grid), str(folder / f"{name}.nrrd"))


def measure(folder: Path, device: str, small: bool, block: str) -> Iterator[object]:
    """Run a block on the pair of a folder."""
    return run_block(read_case(folder, device, small=small), block)


@functools.cache
def read_case(folder: Path, device: str, *, small: bool) -> Case:
    """Return the pair of a folder, to be measured on a device."""
    fixed, moving = (sitk.ReadImage(str(folder / f"{name}.nrrd")) for name in ("fixed", "moving"))
    return Case((fixed, moving), torch.device(device), SMALL if small else FULL)


def fails(line: object) -> bool:
    """Return whether a line says that something is wrong; a goal that was missed is not."""
    return isinstance(line, Ended) or (isinstance(line, Verdict) and line.is_check and not line.met)


def report(lines: Sequence[object]) -> str:
    """Return all that was measured until now as Markdown."""
    rows = [_row(line) for line in lines if isinstance(line, (Row, Ended))]
    verdicts = [_verdict(line) for line in lines if isinstance(line, Verdict)]
    return "\n".join(
        [
            *(line for line in lines if isinstance(line, str)),
            "",
            "| check or goal | found | met |",
            "|---|---|---|",
            *verdicts,
            "",
            "| measured | seconds | of them by stage | peak memory, GB | remark |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _verdict(line: Verdict) -> str:
    kind = "check" if line.is_check else "goal"
    return f"| {kind}: {line.what} | {line.found} | {'met' if line.met else '**not met**'} |"


def _row(line: Row | Ended) -> str:
    if isinstance(line, Ended):
        return f"| {line.block.replace('_', ' ')} |  |  |  | **not measured further**: {line.reason} |"
    seconds = "" if line.seconds is None else f"{line.seconds:.3f}"
    peak = "" if line.peak_gb is None else f"{line.peak_gb:.2f}"
    return f"| {line.what} | {seconds} | {line.stages} | {peak} | {line.remark} |"


if __name__ == "__main__":
    sys.exit(main())
