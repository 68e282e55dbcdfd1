"""Every parameter of a registration, declared once: defaults, limits, help texts and presets.

The same dataclass feeds the library, the command line, the panel in Slicer and the run record.
"""

from __future__ import annotations

from .checks import setting_choices
from .files import MOST_SETTINGS_BYTES, read_settings_file
from .parameters import DeviceName, Initialization, Interpolation, Modality, Precision, Settings
from .presets import PRESETS, Preset

__all__ = [
    "MOST_SETTINGS_BYTES",
    "PRESETS",
    "DeviceName",
    "Initialization",
    "Interpolation",
    "Modality",
    "Precision",
    "Preset",
    "Settings",
    "read_settings_file",
    "setting_choices",
]
