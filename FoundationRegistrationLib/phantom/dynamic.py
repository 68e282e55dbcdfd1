"""A dynamic contrast-enhanced series of one patient who moves between the frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import SettingsError
from .acquisition import VoxelGrid
from .anatomy import Anatomy, Tissues
from .case import LABELS, TASKS
from .checks import check_choice, check_drawn
from .cohort import draw_ranks
from .dynamic_anatomy import DynamicAnatomy
from .dynamic_scanner import easy_scanner, patient_scanner
from .implicit import Points
from .incompressible import Chain
from .patient_anatomy import PatientAnatomy
from .sampling import displacement_field
from .series_motion import MOTIONS, draw_series_motion
from .uptake import CURVE_TYPES, draw_uptakes, enhanced_contrasts, lesion_name

_STREAM = len(TASKS)
_FEWEST, _MOST = 6, 30
_INTERVALS_S = (60.0, 90.0)
_STEP_MM = 8.0
DYNAMIC_LABELS: Mapping[str, int] = MappingProxyType(
    {name: LABELS[name] for name in ("breast", "fibroglandular", "organ")}
    | {"vessel": 4}
    | {lesion_name(curve): 5 + number for number, curve in enumerate(CURVE_TYPES)}
)
"""Breast 1, fibroglandular 2, organ 3, vessel 4, persistent lesion 5, plateau lesion 6, washout lesion 7."""


@dataclass(frozen=True)
class DynamicPhantom:
    """A series with its truth. All frames lie on one grid; all points and vectors are LPS mm.

    Attributes:
        seed: the seed it was drawn from.
        motion: one of MOTIONS.
        difficulty: "patient" or "easy".
        times_s: (F,) seconds from the injection to each frame; frame 0, at 0, is without contrast.
        frames: F MR volumes, float32: fat-suppressed T1 with motion and noise.
        motion_free: F volumes, float32, without motion and without noise: the true curve of every voxel.
        labels: F label maps, uint8, with the values of DYNAMIC_LABELS, not interpolated. A voxel of several
            structures has the highest value, so the whole breast is all values but 0 and 3.
        enhancement: true relative enhancement (F,), S(t) / S(0) - 1, of pure "fibroglandular" and "vessel" voxels
            and those of each lesion, by the names of DYNAMIC_LABELS.
        positions: for each frame, the map from points of frame 0 to points of that frame.
        grid: of all frames.
    """

    seed: int
    motion: str
    difficulty: str
    times_s: NDArray[np.float64]
    frames: tuple[sitk.Image, ...]
    motion_free: tuple[sitk.Image, ...]
    labels: tuple[sitk.Image, ...]
    enhancement: Mapping[str, NDArray[np.float64]]
    positions: tuple[Chain, ...]
    grid: VoxelGrid

    def displacement(self, frame: int) -> sitk.Image:
        """Where the tissue of frame 0 lies in another frame, exactly: T(x) - x in mm, vector float64.

        A frame resampled through it shows the tissue where frame 0 has it.
        """
        return displacement_field(self.positions[frame].forward, self.grid)


def make_dynamic_phantom(
    seed: int = 0,
    *,
    spacing_mm: float = 1.5,
    frames: int = 6,
    motion: str = "sudden",
    difficulty: str = "patient",
) -> DynamicPhantom:
    """Make a dynamic series of both breasts after contrast, with exact motion, labels and uptake curves.

    There is one lesion each with a persistent curve (type I), a plateau (II) and wash-out (III). Before contrast all
    three look like glandular tissue, and the smallest lies within it. Patient, uptake, times, grid and noise depend
    on (seed, difficulty) alone, so the same patient can be had with each kind of motion.

    Args:
        seed: 0 or more.
        spacing_mm: in-plane voxel size, about.
        frames: 6 to 30; they follow each other at one interval of 60 to 90 s.
        motion: "sudden" (one or two jumps), "drift" (relaxation and breath) or "none"; see `draw_series_motion`.
        difficulty: "patient" has bodies as varied as patients', strands of gland, oblique grids, noise, failing fat
            suppression and a slight shading, which stays where it is when she moves, by 3 to 8 mm. "easy" has
            block-like gland, an axial grid, little noise and motion of 1 to 4 mm.

    Raises:
        SettingsError: an argument is out of range, or not one of the choices.
    """
    check_drawn(seed, spacing_mm, difficulty)
    check_choice("motion of a dynamic phantom", motion, MOTIONS)
    if not _FEWEST <= frames <= _MOST:
        msg = f"A dynamic phantom has {_FEWEST} to {_MOST} frames, not {frames}."
        raise SettingsError(msg)
    patient_rng, lesion_rng, uptake_rng, scanner_rng = (_stream(seed, number) for number in range(4))
    anatomy, tissues_at = _patient(patient_rng, seed, difficulty)
    patient = DynamicAnatomy(lesion_rng, anatomy, tissues_at)
    interval = float(np.round(uptake_rng.uniform(*_INTERVALS_S)))
    times = np.array([frame * interval for frame in range(frames)])
    uptakes = draw_uptakes(uptake_rng)
    contrasts = enhanced_contrasts(uptakes, times)
    corners = anatomy.breast_corners()
    breasts = np.stack([corners.min(axis=0), corners.max(axis=0)])
    if difficulty == "easy":
        scanner = easy_scanner(breasts, spacing_mm)
    else:
        centres = np.array([centre for centre, _ in patient.lesions.values()])
        scanner = patient_scanner(scanner_rng, breasts, centres, spacing_mm)
    positions = draw_series_motion(
        _stream(seed, 4 + MOTIONS.index(motion)), motion, difficulty, times, _inside(breasts, tissues_at)
    )
    still = scanner.scan(patient, Chain(()), contrasts, DYNAMIC_LABELS)
    volumes, labels = [], []
    for frame, position in enumerate(positions):
        scanned, signal = still, still.signals[frame]
        if position.links:
            scanned = scanner.scan(patient, position, [contrasts[frame]], DYNAMIC_LABELS)
            signal = scanned.signals[0]
        volumes.append(scanner.image(signal, scanned.heart, _stream(seed, 10 + frame)))
        labels.append(scanned.labels)
    return DynamicPhantom(
        seed=seed,
        motion=motion,
        difficulty=difficulty,
        times_s=times,
        frames=tuple(volumes),
        motion_free=tuple(scanner.image(signal, still.heart, None) for signal in still.signals),
        labels=tuple(labels),
        enhancement={
            name: uptakes["gland" if name == "fibroglandular" else name](times)
            for name in DYNAMIC_LABELS
            if name not in ("breast", "organ")
        },
        positions=tuple(positions),
        grid=scanner.grid,
    )


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, _STREAM, number])


def _patient(rng: np.random.Generator, seed: int, difficulty: str) -> tuple[Anatomy, Callable[[Points], Tissues]]:
    """A patient, and her tissues at points without any lesion."""
    if difficulty == "easy":
        easy = Anatomy(rng)
        return easy, partial(easy, lesion=False)
    ranks = draw_ranks(seed, _STREAM)
    anatomy = PatientAnatomy(rng, ranks)
    anatomy.implants = []  # they would hide lesions
    visit = anatomy.draw_visit(rng, ranks.hardness, lesion=False, treated=False)
    return anatomy, partial(anatomy.at, visit=visit)


def _inside(box: Points, tissues_at: Callable[[Points], Tissues]) -> Points:
    """Points (N, 3) of the breasts, at regular distances."""
    axes = (np.arange(low, high, _STEP_MM) for low, high in zip(*box, strict=True))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return points[tissues_at(points).targets["breast"]]
