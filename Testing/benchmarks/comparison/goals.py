"""The goals of this project against its peers, judged by the records."""

from __future__ import annotations

import dataclasses
from statistics import fmean
from typing import Any

from .methods import ENCODERS, FOLDS_LEFT, LESION_MASK, METHODS, PEERS, PRESET, encoder_method
from .records import DONE, Record

MOST_BELOW_BETTER_PART = 0.005
MOST_COST_OF_UNFOLDING = 0.005
MOST_INVERSE_ERROR_MM = 0.1
MOST_CHANGE_PRESET, MOST_CHANGE_MASK = 15.0, 5.0
_TARGET = "fibroglandular"
_LESION_GROUP = "phantom, lesion"
_OURS = "ours-"
Dice = dict[tuple[str, str], float]


@dataclasses.dataclass(frozen=True)
class Goal:
    """A goal, what was found, and whether it is met; None where the records do not tell."""

    name: str
    found: str
    met: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return dataclasses.asdict(self)


def judged_goals(records: list[Record]) -> list[Goal]:
    """Judge all goals."""
    done = [record for record in records if record["status"] == DONE]
    goals = []
    for encoder in ENCODERS:
        if "+" in encoder:
            goals += [_never_worse_than_parts(done, encoder), _better_on_target(done, encoder)]
    labels = {method.name: method.label for method in METHODS}
    for name in (PRESET.name, *(encoder_method(encoder).name for encoder in ENCODERS if "+" in encoder)):
        goals += [
            _ahead(done, name, peer.name, f"{labels[name]} ahead of {peer.label} in mean Dice") for peer in PEERS
        ]
    goals += [_no_folding(done), _unfolding_costs_little(done), _inverse_fits(done)]
    for method, most in ((PRESET, MOST_CHANGE_PRESET), (LESION_MASK, MOST_CHANGE_MASK)):
        name = f"{method.label}: lesion volume changes by {most:g} % at most"
        goals.append(_lesion_kept(done, method.name, most, "change_percent", name))
    name = f"{PRESET.label}: lesion volume within {MOST_CHANGE_PRESET:g} % of what the true motion makes of it"
    goals.append(_lesion_kept(done, PRESET.name, MOST_CHANGE_PRESET, "against_truth_percent", name))
    return goals


def dice_of(records: list[Record], method: str) -> Dice:
    """Return a method's Dice by case and target."""
    return {
        (record["case"], target): value
        for record in records
        if record["method"] == method
        for target, value in record.get("dice", {}).items()
        if value is not None
    }


def _never_worse_than_parts(done: list[Record], encoder: str) -> Goal:
    name = f"{encoder} never worse than its better part by more than {MOST_BELOW_BETTER_PART} Dice on any case"
    whole = _by_case(dice_of(done, f"{_OURS}{encoder}"))
    parts = [_by_case(dice_of(done, f"{_OURS}{part}")) for part in encoder.split("+")]
    shared = [case for case in whole if all(case in part for part in parts)]
    if not shared:
        return Goal(name, "", None)
    below = {case: max(part[case] for part in parts) - whole[case] for case in shared}
    worst = max(below, key=below.__getitem__)
    found = f"at worst {-below[worst]:+.3f}, on {worst}; {len(shared)} cases"
    return Goal(name, found, below[worst] <= MOST_BELOW_BETTER_PART)


def _better_on_target(done: list[Record], encoder: str) -> Goal:
    name = f"{encoder} above each of its parts in {_TARGET} Dice"
    names = [encoder, *encoder.split("+")]
    found = [{k: v for k, v in dice_of(done, f"{_OURS}{n}").items() if k[1] == _TARGET} for n in names]
    shared = set.intersection(*map(set, found))
    if not shared:
        return Goal(name, "", None)
    means = [fmean(values[key] for key in shared) for values in found]
    words = ", ".join(f"{n} {mean:.3f}" for n, mean in zip(names, means, strict=True))
    return Goal(name, f"{words}; {len(shared)} cases", means[0] > max(means[1:]))


def _ahead(done: list[Record], ours: str, peer: str, name: str) -> Goal:
    one, other = dice_of(done, ours), dice_of(done, peer)
    shared = one.keys() & other.keys()
    if not shared:
        return Goal(name, "", None)
    means = [fmean(values[key] for key in shared) for values in (one, other)]
    return Goal(name, f"{means[0]:.3f} against {means[1]:.3f}; {len(shared)} targets", means[0] > means[1])


def _no_folding(done: list[Record]) -> Goal:
    name = "0 % folded in every run of ours"
    folded = {
        f"{record['case']}, {record['label']}": max(
            record["jacobian"]["folded_percent"], record["figures"].get("folded_percent", 0.0)
        )
        for record in done
        if record["method"].startswith(_OURS)
    }
    if not folded:
        return Goal(name, "", None)
    worst = max(folded, key=folded.__getitem__)
    found = f"{len(folded)} runs" if folded[worst] == 0.0 else f"{folded[worst]:.4f} % on {worst}"
    return Goal(name, found, folded[worst] == 0.0)


def _unfolding_costs_little(done: list[Record]) -> Goal:
    name = f"{PRESET.label}: removing folds costs at most {MOST_COST_OF_UNFOLDING} Dice on any case"
    left, removed = (_by_case(dice_of(done, method.name)) for method in (FOLDS_LEFT, PRESET))
    presets = [record for record in done if record["method"] == PRESET.name]
    costs = {record["case"]: 0.0 for record in presets if record["figures"].get("unfolded_percent") == 0.0}
    costs |= {case: left[case] - removed[case] for case in left.keys() & removed.keys()}
    if not costs:
        return Goal(name, "", None)
    worst = max(costs, key=costs.__getitem__)
    found = f"at most {costs[worst]:.4f}, on {worst}; {len(costs)} cases, {len(left)} of them with folds to remove"
    return Goal(name, found, costs[worst] <= MOST_COST_OF_UNFOLDING)


def _inverse_fits(done: list[Record]) -> Goal:
    name = f"transform and inverse consistent to {MOST_INVERSE_ERROR_MM} mm on average in every run of ours"
    errors = {
        f"{record['case']}, {record['label']}": record["figures"]["inverse_error_mm"]["mean"]
        for record in done
        if record["method"].startswith(_OURS)
    }
    if not errors:
        return Goal(name, "", None)
    worst = max(errors, key=errors.__getitem__)
    return Goal(
        name,
        f"at most {errors[worst]:.3f} mm, on {worst}; {len(errors)} runs",
        errors[worst] <= MOST_INVERSE_ERROR_MM,
    )


def _lesion_kept(done: list[Record], method: str, most: float, figure: str, name: str) -> Goal:
    changes = [
        abs(record["lesion"][figure])
        for record in done
        if record["method"] == method and record["group"] == _LESION_GROUP
    ]
    if not changes:
        return Goal(name, "", None)
    found = f"mean {fmean(changes):.1f} %, at most {max(changes):.1f} %; {len(changes)} cases"
    return Goal(name, found, max(changes) <= most)


def _by_case(dice: Dice) -> dict[str, float]:
    """Return the mean over the targets of each case."""
    cases = {case for case, _ in dice}
    return {case: fmean(value for (other, _), value in dice.items() if other == case) for case in cases}
