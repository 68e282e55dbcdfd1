"""Pictures for the documentation: where they go, and small enough for a repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

_LARGEST_BYTES = 1_000_000
_SCREENSHOTS = Path(__file__).resolve().parents[2] / "Resources" / "Screenshots"


def picture_parser(description: str | None, spacing_mm: float) -> argparse.ArgumentParser:
    """Return a parser with the options --output and --spacing-mm."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=_SCREENSHOTS)
    parser.add_argument(
        "--spacing-mm",
        type=float,
        default=spacing_mm,
        help="voxel size of the synthetic patients (default %(default)s)",
    )
    return parser


def save_small(figure: Any, path: Path) -> None:
    """Write a figure as a small PNG, see `write_small`, and close it."""
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    write_small(picture, path)


def write_small(picture: Image.Image, path: Path, largest_bytes: int = _LARGEST_BYTES) -> None:
    """Write a picture as a PNG with as many colours as keep it small, dithered so that no bands appear."""
    picture.save(path, optimize=True)
    for colours in (256, 128, 64):
        if path.stat().st_size > largest_bytes:
            picture.quantize(colours, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    sys.stderr.write(f"{path} ({path.stat().st_size // 1024} kB)\n")
