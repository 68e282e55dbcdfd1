"""The verdict on a registration, good, check or failed, with its reasons, from measures that need no truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .agreement import Agreement
from .evidence import Evidence
from .fine_structure import FineStructure
from .orientations import AXES

Level = Literal["good", "check", "failed"]

# Fine structure: the ratio of its agreement to chance, in the body and in its weakest part.
_UNRELATED = 1.6
_ACCURATE = 2.1
_ACCURATE_PART = 1.8
# Volumes of one modality and one contrast (`one_sign`) agree as well as that if they are of one patient.
_ONE_CONTRAST = 0.95
_SAME_PATIENT = 0.55
# Fractions of the fixed foreground.
_LEAST_COMPARED = 0.1
_LEAST_IN_COMMON = 0.1
_FAR_OUTLINES_MM = 10.0
_LARGE_ERROR_MM = 5.0
_FAR_STRUCTURE_MM = 5.0
_FAR_POINT_MM = 10.0
_MOSTLY_UNKNOWN_PERCENT = 50.0  # of the fixed foreground

# Mutual information: required ratio of the result's agreement to that of all rotated orientations. Correct pairs
# reach 1.6 and more, cropped ones and different contrasts the least. From an automatic start no better than chance,
# deformation makes unrelated volumes agree up to twice as well.
_ABOVE_CHANCE = 1.3
_START_ABOVE_CHANCE = 1.4
_ABOVE_CHANCE_FROM_A_BAD_START = 2.5
# A mirrored orientation must be better than the result: anatomy is nearly symmetric.
_CLEARLY_BETTER = 1.15
_CLEARLY_WORSE = 0.7
# An orientation is reported if it agrees this many times better than the median of rotated ones, and better than
# noise.
_STANDS_OUT = 2.3
_LEAST_TO_TRUST = 0.05

_ADVICE = "Check that both show the same part of the same patient, align them roughly by landmarks, and run again."
_TURN_BACK = "correct its orientation or start from landmarks, and run again."
_SINGLE_MIRRORS = [f"mirrored {axis}" for axis in AXES]


@dataclass(frozen=True)
class Verdict:
    """Whether to trust a registration.

    Attributes:
        level: "good" if every measure is as in accurate registrations; "failed" if one is as in unrelated volumes;
            "check" in between, and where too little can be compared.
        reasons: why it is not good, the most serious first.
    """

    level: Level
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return " ".join([f"Verdict: {self.level}.", *self.reasons])


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict for what was measured."""
    if failures := tuple(_failures(evidence)):
        return Verdict("failed", failures)
    doubts = tuple(_doubts(evidence))
    return Verdict("check", doubts) if doubts else Verdict("good")


def _failures(evidence: Evidence) -> Iterator[str]:
    if evidence.in_common < _LEAST_IN_COMMON:
        yield (
            f"Only {100 * evidence.in_common:.0f} % of the patient in the smaller volume lies within the other. "
            f"{_ADVICE}"
        )
        return
    reason = "" if evidence.agreement is None else _implausible(evidence.agreement, evidence)
    if reason:
        yield reason
    elif (
        evidence.deformable
        and evidence.fine_structure is not None
        and evidence.fine_structure.above_chance < _UNRELATED
    ):
        yield (
            f"Inside the body the volumes agree hardly better than by chance "
            f"({evidence.fine_structure.above_chance:.1f} times). {_ADVICE}"
        )


def _implausible(agreement: Agreement, evidence: Evidence) -> str:
    """Say why the volumes cannot be registered correctly, from their mutual information; else nothing."""
    after, best = agreement.after, max(agreement.start, agreement.after)
    other = max(agreement.turned, agreement.mirrored)
    lost = evidence.found_automatically and agreement.start < _START_ABOVE_CHANCE * agreement.turned
    enough = _ABOVE_CHANCE_FROM_A_BAD_START if lost else _ABOVE_CHANCE
    if other > _CLEARLY_BETTER * best or after < enough * agreement.turned:
        return _how_it_lies(agreement, best) or f"The volumes agree no better than by chance. {_ADVICE}"
    if best < _CLEARLY_WORSE * agreement.as_given:
        return "The volumes agreed better before the registration; start with --initialization none."
    if after < _CLEARLY_WORSE * agreement.start:
        if not evidence.deformable:
            return "The volumes agree less after the alignment than at its start; give a better start, or landmarks."
        return (
            "The volumes agree less after the deformable stages than after the initial alignment alone; use the "
            "initial alignment, or another encoder or preset."
        )
    return ""


def _how_it_lies(agreement: Agreement, best: float) -> str:
    """Say how the moving volume is rotated or mirrored, if one orientation stands out; else nothing."""
    least = max(_CLEARLY_BETTER * best, _STANDS_OUT * agreement.typical, _LEAST_TO_TRUST)
    if agreement.turned > max(least, agreement.mirrored / _CLEARLY_BETTER):
        return f"The moving volume seems to be {agreement.turn}; {_TURN_BACK}"
    if agreement.mirrored > least and agreement.mirroring in _SINGLE_MIRRORS:
        return f"The moving volume seems to be {agreement.mirroring}, or turned; {_TURN_BACK}"
    return ""


def _doubts(evidence: Evidence) -> Iterator[str]:
    yield from _doubts_of_driving(evidence)
    if not evidence.intensities_compared:
        yield "Only structures and points were compared: elsewhere the transform is interpolated."
        return
    fine = evidence.fine_structure
    if fine is None or fine.compared < _LEAST_COMPARED:
        yield "Too little of the anatomy is inside both volumes to judge the result."
    else:
        yield from _doubts_of(fine, evidence.one_modality)
    outlines = evidence.outlines
    # Where the inside agrees, the foregrounds differ: a shaded coil, another fat suppression.
    inside = 0.0 if fine is None or outlines is None else fine.parts.get(outlines.worst, 0.0)
    if outlines is not None and outlines.worst_mm > _FAR_OUTLINES_MM and inside < _ACCURATE:
        yield (
            f"The outlines of the body lie {outlines.worst_mm:.0f} mm apart in the {outlines.worst} part "
            f"({outlines.median_mm:.0f} mm overall)."
        )
    unknown = evidence.expected_error["not_known_percent"]
    if unknown is not None and unknown > _MOSTLY_UNKNOWN_PERCENT:
        yield f"In {unknown:.0f} % of the fixed anatomy nothing was compared, as the moving volume does not show it."
    expected = evidence.expected_error["median_mm"]
    if expected is not None and expected > _LARGE_ERROR_MM:
        yield f"The expected error is {expected:.1f} mm in the median."


def _doubts_of_driving(evidence: Evidence) -> Iterator[str]:
    for structure in evidence.structures:
        if structure.distance_mm is None:
            yield f"Of the structure '{structure.name}' nothing of the moving volume lies in the fixed one."
        elif structure.distance_mm > _FAR_STRUCTURE_MM:
            yield (
                f"The surfaces of the structure '{structure.name}' are still {structure.distance_mm:.0f} mm apart: "
                "it may be drawn differently in the two volumes, or the registration is wrong there."
            )
    for name, distance in evidence.points_left_mm.items():
        if distance > _FAR_POINT_MM:
            yield f"The point '{name}', which drove the registration, is still {distance:.0f} mm off; check it."


def _doubts_of(fine: FineStructure, one_modality: bool) -> Iterator[str]:
    one_contrast = one_modality and fine.one_sign >= _ONE_CONTRAST
    if one_contrast and fine.agreement < _SAME_PATIENT:
        yield (
            f"The volumes have one contrast, but their fine structure agrees less ({fine.agreement:.2f}) than in "
            f"accurate registrations of one patient ({_SAME_PATIENT} and more): tissue that has changed, a part "
            "that is not aligned, a mirrored volume, or another patient."
        )
    if not one_contrast and fine.above_chance < _ACCURATE:
        yield (
            f"The fine structure agrees only {fine.above_chance:.2f} times better than by chance, in accurate "
            f"registrations {_ACCURATE} times and more."
        )
    part, ratio = fine.weakest
    if ratio < _ACCURATE_PART:
        yield f"It agrees least in the {part} part of what both show ({ratio:.1f} times chance): look there."
