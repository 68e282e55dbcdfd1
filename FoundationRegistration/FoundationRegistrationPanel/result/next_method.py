"""The method to try next when a registration is bad."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from FoundationRegistrationLib.settings import PRESETS

from ..parameters import preset_values

# Words of the verdict's reasons, and the presets that may help then, the likeliest first.
_HELP = (
    ("have one contrast", ("longitudinal", "lesion", "between-patients")),
    ("outlines of the body", ("pet-ct-to-mri", "between-patients")),
    ("expected error", ("pet-ct-to-mri", "between-patients")),
    ("nothing was compared", ("pet-ct-to-mri",)),
    ("chance", ("cross-sequence", "pet-ct-to-mri")),
)
_OTHERWISE = ("cross-sequence", "longitudinal", "pet-ct-to-mri", "between-patients")


def next_method(reasons: Sequence[str], tried: Collection[str]) -> str:
    """Return the preset to try next, with other settings than those tried; empty if none is left.

    Args:
        reasons: of the verdict, the most serious first.
        tried: presets that this pair was registered with.
    """
    suggested = [preset for reason in reasons for words, presets in _HELP if words in reason for preset in presets]
    methods = [_method(preset) for preset in tried if preset in PRESETS]
    return next((preset for preset in (*suggested, *_OTHERWISE) if _method(preset) not in methods), "")


def _method(preset: str) -> Mapping[str, Any]:
    """Return the settings of a preset; several have the same."""
    return {name: value for name, value in preset_values(preset).items() if name != "preset"}
