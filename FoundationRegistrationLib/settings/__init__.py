"""Every parameter of a registration, declared once: defaults, limits, help texts and presets.

The library, the command line, the Slicer panel and the run record use the same dataclass.
"""

from __future__ import annotations

from .checks import setting_choices
from .files import MOST_SETTINGS_BYTES, combined, read_settings_file
from .parameters import (
    STRUCTURES_ONLY,
    DeviceName,
    Initialization,
    Interpolation,
    LastStage,
    Modality,
    Precision,
    Settings,
)
from .presets import PRESETS, Preset

__all__ = [
    "MOST_SETTINGS_BYTES",
    "PRESETS",
    "STRUCTURES_ONLY",
    "DeviceName",
    "Initialization",
    "Interpolation",
    "LastStage",
    "Modality",
    "Precision",
    "Preset",
    "Settings",
    "combined",
    "read_settings_file",
    "setting_choices",
]
