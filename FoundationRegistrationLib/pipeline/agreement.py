"""Whether two volumes agree after a registration, and whether better than by chance.

Agreement is the normalised mutual information of both volumes inside the patient, on a coarse grid: it asks for no
like contrast, and the outline, which any two bodies share, does not count. What chance gives is measured on the pair
itself: the moving volume is turned in all the ways that carry axes onto axes, shifted to where it then agrees best,
and compared again. A pair that was brought together agrees far better than any of these. If one of them agrees better
than what was found, that is how the moving volume seems to be turned or mirrored.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..spatial.grids import WorkingGrid, resample_to_grid
from ..spatial.points import physical_points, transform_points
from .preprocessing import PreparedVolume

_CELLS = 8000  # of the grid, inside both patients
_LEAST_CELLS = 1000
_LEAST_THICKNESS = 4  # cells along each axis; thinner volumes are not judged
_POINTS = 20_000
_BINS = 16
_LARGEST_SHIFT = 6  # cells
# A placement counts that leaves this share of what was compared.
_LEAST_OVERLAP = 0.3
# A turn with which the fixed volume agrees so well with itself tells nothing.
_SYMMETRIC = 0.5
# What was found is told from chance if it is so many times better than all turned placements. Sound pairs reach 1.6
# and more, cropped ones and other contrasts the least. From a start that was sought and is no better than chance,
# deformation makes unrelated volumes agree up to twice as well.
_ABOVE_CHANCE = 1.3
_START_ABOVE_CHANCE = 1.4
_ABOVE_CHANCE_FROM_A_BAD_START = 2.5
# A mirrored placement has to be better than what was found: anatomy is nearly symmetric itself.
_CLEARLY_BETTER = 1.15
_CLEARLY_WORSE = 0.7
# A placement is named if it agrees so many times better than turned ones do at the median, and more than noise does.
_STANDS_OUT = 2.3
_LEAST_TO_TRUST = 0.05
# Of the smaller patient so much has to lie within the other.
_LEAST_IN_COMMON = 0.1
_AXES = ("left-right", "front-back", "feet-head")  # x, y, z in LPS

_FAILED = "This registration has most likely failed: "
_ADVICE = "check that both show the same part of the same patient, align them roughly by landmarks, and run again."
_BY_CHANCE = f"the volumes agree no better than by chance after it; {_ADVICE}"
_SINGLE_MIRRORS = [f"mirrored {axis}" for axis in _AXES]
_TURN_BACK = "correct its orientation or start from landmarks, and run again."


@dataclass(frozen=True)
class Agreement:
    """Normalised mutual information inside the patient, 0 for none, 1 if each volume tells the other.

    Attributes:
        as_given: of the volumes where their headers place them; 0 if they hardly meet there.
        start: with the initial transform.
        after: with the whole transform.
        typical: of the turned placements, the median.
        turned: the best of the turned placements, which is what chance gives, or how the volume should lie.
        mirrored: the best of the mirrored ones.
        turn: the turned placement in words.
        mirroring: the mirrored placement in words.
    """

    as_given: float
    start: float
    after: float
    typical: float
    turned: float
    mirrored: float
    turn: str
    mirroring: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return dataclasses.asdict(self)


def measure_agreement(
    fixed: PreparedVolume, moving: PreparedVolume, initial: sitk.Transform, transform: sitk.Transform
) -> Agreement | None:
    """Measure how well two volumes agree before, after, and in other placements.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        initial: maps fixed to moving points, LPS mm, before the deformable stages.
        transform: the whole transform.

    Returns:
        None where too little is common to both to tell: thin volumes, small masks, hardly any overlap.
    """
    grid = _grid(fixed, moving, initial)
    if grid is None:
        return None
    fixed, moving = (_shrunk(volume, grid.spacing) for volume in (fixed, moving))
    here = _Carried.of(fixed, grid, sitk.TranslationTransform(3))
    given, start, after = (
        _Carried.of(moving, grid, each) for each in (sitk.TranslationTransform(3), initial, transform)
    )
    common = int((here.inside & start.inside).sum())
    if common < _LEAST_CELLS:
        return None
    centre = np.array(grid.origin) + (np.array(grid.shape[::-1]) - 1) / 2 * grid.spacing
    unchanged = sitk.TranslationTransform(3, (np.array(initial.TransformPoint(centre.tolist())) - centre).tolist())
    placed = [start, _Carried.of(moving, grid, unchanged)]
    least = int(_LEAST_OVERLAP * common)
    found: dict[bool, list[tuple[float, str]]] = {True: [(0.0, "")], False: [(0.0, "")]}
    for orientation in _ORIENTATIONS[1:]:
        if _best_nearby(here, orientation.of(here), least) > _SYMMETRIC:
            continue
        best = max(_best_nearby(here, orientation.of(volume), least) for volume in placed)
        found[orientation.mirrors].append((best, orientation.words))
    (turned, turn), (mirrored, mirroring) = max(found[False]), max(found[True])
    return Agreement(
        as_given=max(here.agreement(given, least), 0.0),
        start=max(here.agreement(start, least), 0.0),
        after=max(here.agreement(after, least), 0.0),
        typical=float(np.median([best for best, _ in found[False]])),
        turned=turned,
        mirrored=mirrored,
        turn=turn,
        mirroring=mirroring,
    )


def what_to_say(agreement: Agreement, *, found_automatically: bool) -> list[str]:
    """Return a warning in words if the volumes do not agree after the registration, else nothing.

    Args:
        agreement: as it was measured.
        found_automatically: whether the start was sought in the volumes, so that it should be right if they belong
            together.
    """
    after, best = agreement.after, max(agreement.start, agreement.after)
    other = max(agreement.turned, agreement.mirrored)
    lost = found_automatically and agreement.start < _START_ABOVE_CHANCE * agreement.turned
    enough = _ABOVE_CHANCE_FROM_A_BAD_START if lost else _ABOVE_CHANCE
    if other > _CLEARLY_BETTER * best or after < enough * agreement.turned:
        return [_FAILED + (_how_it_lies(agreement, best) or _BY_CHANCE)]
    if best < _CLEARLY_WORSE * agreement.as_given:
        return [f"{_FAILED}the volumes agreed better where they lay before it; start with --initialization none."]
    if after < _CLEARLY_WORSE * agreement.start:
        return [
            "The deformable part has most likely made this registration worse: the volumes agree less after it than "
            "after the initial alignment alone; use that one, or another encoder or preset."
        ]
    return []


def _how_it_lies(agreement: Agreement, best: float) -> str:
    """Say how the moving volume is turned or mirrored, if one such placement stands out; else nothing."""
    least = max(_CLEARLY_BETTER * best, _STANDS_OUT * agreement.typical, _LEAST_TO_TRUST)
    if agreement.turned > max(least, agreement.mirrored / _CLEARLY_BETTER):
        return f"the moving volume seems to be {agreement.turn}; {_TURN_BACK}"
    if agreement.mirrored > least and agreement.mirroring in _SINGLE_MIRRORS:
        return f"the moving volume seems to be {agreement.mirroring}, or turned; {_TURN_BACK}"
    return ""


def _shrunk(volume: PreparedVolume, spacing_mm: float) -> PreparedVolume:
    """Return the volume with no more voxels than a grid of that spacing needs: it is sampled several times."""
    steps = np.maximum(1, np.floor(0.7 * spacing_mm / np.asarray(volume.image.GetSpacing()))).astype(int)
    steps = np.minimum(steps, volume.image.GetSize())
    return dataclasses.replace(volume, image=sitk.BinShrink(volume.image, steps.tolist()))


def little_in_common(fixed: PreparedVolume, moving: PreparedVolume, transform: sitk.Transform) -> list[str]:
    """Return a warning in words if the smaller patient, or mask, hardly lies within the other; else nothing.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        transform: maps fixed to moving points, LPS mm.
    """
    _, shared = _common(fixed.foreground, moving.foreground, transform)
    ours, theirs = (_volume_mm3(volume.foreground) for volume in (fixed, moving))
    share = float(shared.mean()) * ours / min(ours, theirs)
    if share >= _LEAST_IN_COMMON:
        return []
    return [
        f"Only {100 * share:.0f} % of what the smaller volume shows of the patient lies within the other after this "
        f"registration; {_ADVICE}"
    ]


def _volume_mm3(mask: sitk.Image) -> float:
    return float(np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing()))


@dataclass(frozen=True)
class _Carried:
    """A volume on the grid: brightness (z, y, x) in ranks of equal size, and where the patient is."""

    ranks: NDArray[np.intp]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, volume: PreparedVolume, grid: WorkingGrid, transform: sitk.Transform) -> _Carried:
        """Sample a volume; the transform maps points of the grid to points of the volume, LPS mm."""
        values = resample_to_grid(volume.image, grid, transform)
        inside = resample_to_grid(volume.foreground, grid, transform, label=True) > 0
        inner = values[inside] if inside.any() else values.ravel()
        edges = np.unique(np.quantile(inner, np.linspace(0.0, 1.0, _BINS + 1)[1:-1]))
        return cls(np.searchsorted(edges, values, side="right"), inside)

    def agreement(self, other: _Carried, least: int, shift: tuple[int, int, int] = (0, 0, 0)) -> float:
        """Return the agreement with another volume moved by so many cells; 0 if fewer than `least` are common.

        The mutual information of chance, which grows with the number of bins, is taken off (Miller 1955).
        """
        pairs = list(zip(shift, self.inside.shape, strict=True))
        ours = tuple(slice(max(0, by), size + min(0, by)) for by, size in pairs)
        theirs = tuple(slice(max(0, -by), size + min(0, -by)) for by, size in pairs)
        common = self.inside[ours] & other.inside[theirs]
        joint = np.bincount(
            self.ranks[ours][common] * _BINS + other.ranks[theirs][common], minlength=_BINS**2
        ).reshape(_BINS, _BINS)
        count = int(joint.sum())
        if count < max(least, 1):
            return 0.0
        one, two = joint.sum(1), joint.sum(0)
        alone = _entropy(one), _entropy(two)
        chance = (np.count_nonzero(one) - 1) * (np.count_nonzero(two) - 1) / (2 * count)
        information = sum(alone) - _entropy(joint.ravel()) - chance
        return float(information / min(alone)) if min(alone) > 0.0 else 0.0


def _entropy(counts: NDArray[np.intp]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _best_nearby(fixed: _Carried, moving: _Carried, least: int) -> float:
    """Return the agreement at the best shift of the moving volume that steps of two cells, then of one, lead to."""
    here = (0, 0, 0)
    seen = {here: fixed.agreement(moving, least)}
    step = 2
    while step:
        around = [_moved(here, axis, by) for axis in range(3) for by in (-step, step)]
        for shift in around:
            if shift not in seen and max(map(abs, shift)) <= _LARGEST_SHIFT:
                seen[shift] = fixed.agreement(moving, least, shift)
        best = max(seen, key=lambda shift: seen[shift])
        if best == here:
            step //= 2
        here = best
    return seen[here]


def _moved(shift: tuple[int, int, int], axis: int, by: int) -> tuple[int, int, int]:
    z, y, x = (value + by * (index == axis) for index, value in enumerate(shift))
    return z, y, x


@dataclass(frozen=True)
class _Orientation:
    """One of the 48 ways to carry axes onto axes: which axis (z, y, x) comes first, second, third; and its sign."""

    axes: tuple[int, ...]
    signs: tuple[int, ...]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """What it does to a point (x, y, z) of the patient."""
        matrix = np.zeros((3, 3))
        for row, (axis, sign) in enumerate(zip(self.axes, self.signs, strict=True)):
            matrix[2 - row, 2 - axis] = sign
        return matrix

    @property
    def mirrors(self) -> bool:
        """Whether it makes a left hand of a right hand."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def words(self) -> str:
        """Say what happened to a volume that this brings back."""
        matrix = self.matrix
        kept = np.flatnonzero(np.diag(matrix) == 1)
        if self.mirrors:
            flipped = np.flatnonzero(np.diag(matrix) == -1)
            return f"mirrored {_AXES[flipped[0]]}" if len(kept) == 2 else "mirrored and turned"
        if len(kept) == 0:
            half_turn = np.trace(matrix) == -1
            return "turned by 180 degrees, with two axes exchanged" if half_turn else "turned, all axes exchanged"
        degrees = 180 if np.trace(matrix) == -1 else 90
        return f"turned by {degrees} degrees about the {_AXES[kept[0]]} axis"

    def of(self, volume: _Carried) -> _Carried:
        """Return a volume on a cubic grid, turned about its centre."""
        backward = tuple(axis for axis, sign in enumerate(self.signs) if sign < 0)
        ranks, inside = (np.flip(array.transpose(self.axes), backward) for array in (volume.ranks, volume.inside))
        return _Carried(np.ascontiguousarray(ranks), np.ascontiguousarray(inside))


_ORIENTATIONS = [
    _Orientation(axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]  # the first one leaves all as it is


def _grid(fixed: PreparedVolume, moving: PreparedVolume, initial: sitk.Transform) -> WorkingGrid | None:
    """Return a cubic grid around what both patients share with the initial transform; None if that is too little."""
    points, shared = _common(fixed.foreground, moving.foreground, initial)
    if shared.sum() < 8:
        return None
    volume = _volume_mm3(fixed.foreground) * shared.mean()
    low, high = points[shared].min(0), points[shared].max(0)
    spacing = float(min(np.cbrt(volume / _CELLS), (high - low).min() / _LEAST_THICKNESS))
    reach = 0.5 * float((high - low).max())
    if spacing <= 0.0 or volume / spacing**3 > 8 * _CELLS:
        return None
    cells = int(np.ceil(reach / spacing)) + 2
    x, y, z = (float(value) for value in 0.5 * (low + high) - cells * spacing)
    return WorkingGrid((x, y, z), spacing, (2 * cells + 1,) * 3)


def _common(
    fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return points spread over the fixed patient, (N, 3) in LPS mm, and which are carried into the moving one."""
    inside = sitk.GetArrayViewFromImage(fixed)
    chosen = np.flatnonzero(inside)
    indices = np.stack(np.unravel_index(chosen[:: max(1, len(chosen) // _POINTS)], inside.shape)[::-1], axis=1)
    points = physical_points(fixed, indices)
    direction = np.array(moving.GetDirection()).reshape(3, 3)
    offsets = transform_points(transform, points) - np.asarray(moving.GetOrigin())
    there = np.rint(offsets @ direction / np.asarray(moving.GetSpacing())).astype(int)
    shared = ((there >= 0) & (there < np.asarray(moving.GetSize()))).all(1)
    x, y, z = there[shared].T
    shared[shared] = sitk.GetArrayViewFromImage(moving)[z, y, x] != 0
    return points, shared
