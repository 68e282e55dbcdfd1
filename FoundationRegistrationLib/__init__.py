"""Deformable registration of medical volumes with vision foundation encoders, without training.

`register` takes two volumes of SimpleITK, nibabel or MONAI and returns a `RegistrationResult`. For research, not a
medical device.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from .errors import (
    FoundationRegistrationError,
    InputError,
    OutputError,
    RegistrationCancelledError,
    SettingsError,
    WeightsError,
)
from .settings import PRESETS, Settings

if TYPE_CHECKING:
    from .evaluation.accuracy import evaluate_label_maps, evaluate_landmarks
    from .io.arrays import array_from_volume, volume_from_array
    from .io.regions import box_region
    from .io.volumes import read_volume
    from .pipeline.registration import register
    from .pipeline.result import RegistrationResult
    from .series.curves import LabelCurve, label_curves
    from .series.frames import Series
    from .series.kinetics import KineticMaps, kinetic_maps, maximum_intensity_projection, subtraction
    from .series.phases import Phases, choose_phases
    from .series.reading import read_series
    from .series.registration import register_series
    from .series.result import FrameResult, SeriesResult

__version__ = "0.1.0"

# Apple's backend lacks some 3D operators; torch falls back to the CPU only if told before it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__all__ = [
    "PRESETS",
    "FoundationRegistrationError",
    "FrameResult",
    "InputError",
    "KineticMaps",
    "LabelCurve",
    "OutputError",
    "Phases",
    "RegistrationCancelledError",
    "RegistrationResult",
    "Series",
    "SeriesResult",
    "Settings",
    "SettingsError",
    "WeightsError",
    "array_from_volume",
    "box_region",
    "choose_phases",
    "evaluate_label_maps",
    "evaluate_landmarks",
    "kinetic_maps",
    "label_curves",
    "maximum_intensity_projection",
    "read_series",
    "read_volume",
    "register",
    "register_series",
    "subtraction",
    "volume_from_array",
]
# Modules that need torch or SimpleITK are loaded on first use (PEP 562), so that the panel opens without them.
_LAZY = {
    "FrameResult": ".series.result",
    "KineticMaps": ".series.kinetics",
    "LabelCurve": ".series.curves",
    "Phases": ".series.phases",
    "RegistrationResult": ".pipeline.result",
    "Series": ".series.frames",
    "SeriesResult": ".series.result",
    "array_from_volume": ".io.arrays",
    "box_region": ".io.regions",
    "choose_phases": ".series.phases",
    "evaluate_label_maps": ".evaluation.accuracy",
    "evaluate_landmarks": ".evaluation.accuracy",
    "kinetic_maps": ".series.kinetics",
    "label_curves": ".series.curves",
    "maximum_intensity_projection": ".series.kinetics",
    "read_series": ".series.reading",
    "read_volume": ".io.volumes",
    "register": ".pipeline.registration",
    "register_series": ".series.registration",
    "subtraction": ".series.kinetics",
    "volume_from_array": ".io.arrays",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
