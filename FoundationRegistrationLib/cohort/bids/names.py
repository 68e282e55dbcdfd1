"""Names of files in BIDS: entities in their order, and a suffix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import InputError

_VOLUMES = (".nii.gz", ".nii")
# As in the BIDS specification; those that are not listed come before `space`.
_ORDER = (
    *("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run"),
    *("mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi"),
)
_LATER = ("space", "split", "recording", "chunk", "seg", "res", "den", "label", "desc")
_NUMBERS = ("run", "echo", "flip", "inv", "split", "chunk")  # 1 and 01 are the same


@dataclass(frozen=True)
class BidsName:
    """Entities and suffix of a file; or those that a file is asked to have, where an empty value stands for none.

    Attributes:
        entities: values by short name, such as {"sub": "01", "ses": "02"}.
        suffix: such as T1w.
    """

    entities: Mapping[str, str]
    suffix: str

    def __str__(self) -> str:
        order = {name: place for place, name in enumerate((*_ORDER, "", *_LATER))}
        names = sorted(self.entities, key=lambda name: order.get(name, order[""]))
        return "_".join([*(f"{name}-{self.entities[name]}" for name in names), self.suffix])

    def accepts(self, name: BidsName) -> bool:
        """Whether a file has all that is asked for here."""
        return self.suffix == name.suffix and all(
            _value(key, name.entities.get(key, "")) == _value(key, value) for key, value in self.entities.items()
        )

    @property
    def label(self) -> str:
        """What is asked for as a value of an entity: ses-02_T1w is ses02T1w."""
        words = (key + value for key, value in self.entities.items() if value)
        return re.sub(r"[^A-Za-z0-9]", "", "".join(words) + self.suffix)


def file_name(name: str) -> BidsName | None:
    """Return what the name of a volume says; None if it is none of BIDS."""
    stem = without_ending(name)
    return None if stem == name else _parsed(stem)


def without_ending(name: str) -> str:
    """Return the name of a volume without .nii or .nii.gz; any other name as it is."""
    ending = next((ending for ending in _VOLUMES if name.endswith(ending)), "")
    return name.removesuffix(ending)


def expression(text: str, option: str) -> BidsName:
    """Return what a file is asked to have: ses-02_acq-_T1w has ses-02, no acq, and the suffix T1w.

    Args:
        text: entities and a suffix, joined by underscores.
        option: that it was given to, for the message.

    Raises:
        InputError: it has no suffix, or names a subject.
    """
    found = _parsed(text)
    if found is None or "sub" in found.entities:
        msg = (
            f"{option} is '{text[:60]}'; give entities and a suffix of BIDS without the subject, such as ses-01_T1w."
        )
        raise InputError(msg)
    return found


def _parsed(stem: str) -> BidsName | None:
    *entities, suffix = stem.split("_")
    parts = [entity.partition("-") for entity in entities]
    well_formed = all(key.isalpha() and dash for key, dash, _ in parts) and suffix.isalnum()
    keys = {key for key, _, _ in parts}
    return (
        BidsName({key: value for key, _, value in parts}, suffix) if well_formed and len(keys) == len(parts) else None
    )


def _value(key: str, value: str) -> str:
    return str(int(value)) if key in _NUMBERS and value.isdecimal() else value
