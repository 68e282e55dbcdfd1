"""What a phantom is asked for is checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SettingsError

DIFFICULTIES = ("patient", "easy")
_SPACINGS_MM = (0.5, 20.0)


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise a SettingsError unless `value` is one of the choices of `what`."""
    if value not in choices:
        msg = f"Unknown {what} '{value}'. Choose one of: {', '.join(choices)}."
        raise SettingsError(msg)


def check_drawn(seed: int, spacing_mm: float, difficulty: str) -> None:
    """Raise a SettingsError for a difficulty, seed or voxel size that no phantom has."""
    check_choice("phantom difficulty", difficulty, DIFFICULTIES)
    if seed < 0:
        msg = f"The phantom's seed must be 0 or more, not {seed}."
        raise SettingsError(msg)
    if not _SPACINGS_MM[0] <= spacing_mm <= _SPACINGS_MM[1]:
        msg = (
            f"The phantom's spacing_mm must lie between {_SPACINGS_MM[0]} and {_SPACINGS_MM[1]} mm, not {spacing_mm}."
        )
        raise SettingsError(msg)
