"""Slices as picture files: all slices of a volume on one sheet, and the thumbnail of a pair."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...evaluation.report.views import checkerboard
from .slices import Slices

MOST_BYTES = 380_000  # of all sheets of a pair
_LONGEST_SIDE = 320  # pixels of a slice
_QUALITIES = (80, 60, 40)  # tried in this order until the sheets are small enough
_SHRINKING = 0.75
_THUMBNAIL = (168, 128)  # pixels: width and height of each of its two halves, twice what is seen
_GAP = 4
_TILES = 6  # along the longer side of a thumbnail's half


@dataclass(frozen=True)
class Sheets:
    """The sheets of a pair.

    Attributes:
        files: content of each WebP file by the name of its layer.
        width: of a slice, in pixels.
        height: of a slice, in pixels.
        columns: slices side by side; they run along the rows, the lowest slice first.
    """

    files: dict[str, bytes]
    width: int
    height: int
    columns: int


def draw_sheets(slices: Slices, most_bytes: int = MOST_BYTES) -> Sheets:
    """Put all slices of each layer on a sheet; quality and then size are reduced until all take `most_bytes`."""
    count, rows, columns = slices.layers["fixed"].shape
    high, wide = rows * slices.pixel_mm[0], columns * slices.pixel_mm[1]
    pixel = max(max(high, wide) / _LONGEST_SIDE, min(slices.pixel_mm))
    while True:
        width, height = max(1, round(wide / pixel)), max(1, round(high / pixel))
        across = min(count, max(1, round(math.sqrt(count * height / width))))
        sheets = {name: _sheet(layer, width, height, across) for name, layer in slices.layers.items()}
        for quality in _QUALITIES:
            files = {name: _webp(sheet, quality) for name, sheet in sheets.items()}
            if sum(map(len, files.values())) <= most_bytes or width * height == 1:
                return Sheets(files, width, height, across)
        pixel /= _SHRINKING


def draw_thumbnail(slices: Slices) -> bytes:
    """Checkerboards of the middle slice before and after, side by side; only the second without the moving volume."""
    index = slices.middle
    fixed = slices.layers["fixed"][index]
    millimetres = [n * mm for n, mm in zip(fixed.shape, slices.pixel_mm, strict=True)]
    scale = min(_THUMBNAIL[1] / millimetres[0], _THUMBNAIL[0] / millimetres[1])
    height, width = (max(1, round(scale * mm)) for mm in millimetres)
    board = checkerboard((height, width), (1.0, 1.0), max(height, width) / _TILES)
    resized = {name: _resized(layer[index], width, height) for name, layer in slices.layers.items()}
    halves = [
        np.where(board, resized["fixed"], resized[name]) for name in ("before", "registered") if name in resized
    ]
    gap = np.zeros((height, _GAP), np.uint8)
    return _webp(halves[0] if len(halves) == 1 else np.hstack([halves[0], gap, halves[1]]), _QUALITIES[0])


def _sheet(layer: NDArray[np.uint8], width: int, height: int, columns: int) -> NDArray[np.uint8]:
    sheet = np.zeros((math.ceil(len(layer) / columns) * height, columns * width), np.uint8)
    for number, picture in enumerate(layer):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = _resized(picture, width, height)
    return sheet


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _webp(picture: NDArray[np.uint8], quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=quality, method=3)
    return file.getvalue()
