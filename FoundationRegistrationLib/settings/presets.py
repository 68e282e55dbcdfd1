"""Presets: named sets of settings and their purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ..runtime.plugins import plugins


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named set of values that differ from the defaults, and its purpose."""

    purpose: str
    values: Mapping[str, Any]


# Soft tissue of one patient hardly changes its volume.
_TISSUE: Mapping[str, Any] = {"compressibility": 0.1}
_MR: Mapping[str, Any] = {"encoder": "mind", "search_range_mm": 48.0, **_TISSUE}

_OWN: Mapping[str, Preset] = {
    "default": Preset("one anatomy, moderate deformation", {}),
    "longitudinal": Preset("the same sequence on another date: local structure, then intensities", _MR),
    "cross-sequence": Preset("another MR sequence: local structure, then the finest detail of intensities", _MR),
    "lesion": Preset("a lesion that is followed; give a mask of it, so that it keeps its volume", _MR),
    "dce": Preset(
        "the frames of a dynamic series before and after contrast agent: local structure, whatever the contrast",
        {
            "encoder": "mind",
            "initialization": "rigid",
            "displacement_half_width": 2,
            "motion_floor": 0.3,
            # A lesion that lights up would be drawn together: its border then lies where there was none before.
            "compressibility": 0.0,
            # Adam would fit the noise of the features where tissue has no structure.
            "iterations": 0,
            # Between two frames a patient moves little, and smoothly.
            "fluid_smoothing": 5.0,
            # Between voxels a line blurs small lesions, which lowers their curves by some per cent.
            "interpolation": "bspline",
        },
    ),
    "between-patients": Preset(
        "two people, or a patient and an atlas: more freedom, and tissue may change its volume",
        {"encoder": "mind", "fluid_smoothing": 1.5, "field_smoothing": 0.75},
    ),
    "fast": Preset(
        "a first look, where seconds count: as between patients, on a grid of 2 mm with half of the steps",
        {
            "encoder": "mind",
            "working_spacing_mm": 2.0,
            "fluid_iterations": 30,
            "fluid_smoothing": 1.5,
            "field_smoothing": 0.75,
        },
    ),
    "pet-ct-to-mri": Preset(
        "supine CT (of a PET/CT) to prone MR: semantic features and a wide search, then local structure",
        {
            "encoder": "efficientnet-lite0",
            "detail_encoder": "mind",
            "working_spacing_mm": 2.0,
            "slice_gap": 2,
            "components": 24,
            "regularization": 1.0,
            "search_range_mm": 48.0,
            **_TISSUE,
        },
    ),
    "convexadam": Preset(
        "the settings of the ConvexAdam package (Siebert et al. 2024), with MIND",
        {
            "encoder": "mind",
            "convergence_tolerance": 0.0,
            "adam_levels": 1,
            "fluid_iterations": 0,
        },
    ),
    "anatomix": Preset(
        "the ConvexAdam settings of anatomix's authors (Dey et al. 2025): anatomix beside MIND",
        {
            "encoder": "anatomix-mind",
            "grid_spacing": 2,
            "displacement_half_width": 1,
            # 0.75 for the mean over 28 channels times 12; here the channels are summed.
            "regularization": 1.75,
            "convergence_tolerance": 0.0,
            "adam_levels": 1,
            "fluid_iterations": 0,
        },
    ),
    "reference": Preset(
        "the settings of the paper, taken from DINO-Reg (Song et al. 2024)",
        {
            "working_spacing_mm": 1.0,
            "slice_gap": 6,
            "regularization": 2.0,
            "learning_rate": 3.0,
            "iterations": 1000,
            "smoothing_kernel": 7,
            "smoothing_repeats": 5,
            "mind_radius": 3,
            "convergence_tolerance": 0.0,
            "adam_levels": 1,
            "fluid_iterations": 0,
        },
    ),
}


class _Presets(Mapping[str, Preset]):
    """The presets of this package, followed by those of plugins, which are loaded on first use."""

    def __getitem__(self, name: str) -> Preset:
        return _OWN[name] if name in _OWN else plugins("presets")[name]

    def __iter__(self) -> Iterator[str]:
        yield from _OWN
        yield from (name for name in plugins("presets") if name not in _OWN)

    def __len__(self) -> int:
        return len({*_OWN, *plugins("presets")})


PRESETS: Mapping[str, Preset] = _Presets()
"""The presets by name, in display order; plugins may add some, see `runtime.plugins`."""
