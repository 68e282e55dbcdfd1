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


# One patient changes little between examinations: one longer, stiffer round fits less noise than several.
_ONE_LONG_ROUND = {
    "correlation_rounds": 1,
    "correlation_iterations": 80,
    "correlation_regularization": 2.0,
    "correlation_radius": 2,
}

_OWN: Mapping[str, Preset] = {
    "default": Preset("one anatomy, moderate deformation", {}),
    "longitudinal": Preset(
        "the same sequence on another date: local structure, then intensities",
        {"encoder": "mind", "regularization": 4.0, "voxel_iterations": 0, **_ONE_LONG_ROUND},
    ),
    "cross-sequence": Preset(
        "another MR sequence: local structure, independent of contrast", {"encoder": "mind", "regularization": 2.0}
    ),
    "lesion": Preset(
        "a lesion in one volume only: the field stays stiff there, so that the lesion keeps its size",
        {
            "encoder": "mind",
            "regularization": 4.0,
            "unmatched_stiffness": 100.0,
            **_ONE_LONG_ROUND,
        },
    ),
    "pet-ct-to-mri": Preset(
        "supine CT (of a PET-CT) to prone MR: semantic features and a wide search, then local structure",
        {
            "encoder": "efficientnet-lite0",
            "detail_encoder": "mind",
            "working_spacing_mm": 2.0,
            "slice_gap": 2,
            "components": 24,
            "regularization": 1.0,
            "search_range_mm": 48.0,
            "voxel_iterations": 80,
            **_ONE_LONG_ROUND,
            "correlation_iterations": 160,
            "correlation_regularization": 1.0,
        },
    ),
    "convexadam": Preset(
        "the settings of the ConvexAdam package (Siebert et al. 2024), with MIND",
        {
            "encoder": "mind",
            "convergence_tolerance": 0.0,
            "adam_levels": 1,
            "voxel_iterations": 0,
            "correlation_rounds": 0,
        },
    ),
    "reference": Preset(
        "the settings of the paper, taken from DINO-Reg (Song et al. 2024)",
        {
            "regularization": 2.0,
            "learning_rate": 3.0,
            "iterations": 1000,
            "smoothing_kernel": 7,
            "smoothing_repeats": 5,
            "mind_radius": 3,
            "convergence_tolerance": 0.0,
            "adam_levels": 1,
            "voxel_iterations": 0,
            "correlation_rounds": 0,
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
