"""Deformable registration of medical volumes with vision foundation encoders, without training.

`register` takes two SimpleITK images and returns a `RegistrationResult`. For research, not a medical device.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import FoundationRegistrationError
from .settings import PRESETS, Settings

if TYPE_CHECKING:
    from .pipeline.registration import register
    from .pipeline.result import RegistrationResult

__version__ = "0.1.0"

# Apple's backend lacks some three-dimensional operators; torch then computes them on the CPU if told to beforehand.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__all__ = ["PRESETS", "FoundationRegistrationError", "RegistrationResult", "Settings", "register"]


def __getattr__(name: str) -> Any:
    """Load what needs torch and SimpleITK only when it is asked for, so that a panel opens without them."""
    if name == "register":
        from .pipeline.registration import register

        return register
    if name == "RegistrationResult":
        from .pipeline.result import RegistrationResult

        return RegistrationResult
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
