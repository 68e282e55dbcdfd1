"""The pair that is as hard as patients are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .acquisition import VoxelGrid, acquire_ct, acquire_pet, paint
from .anatomy import TARGETS
from .annotation import Annotator, draw_annotator, with_slips
from .artefacts import acquire_spoilt_mr, draw_artefacts
from .case import TASKS, PhantomCase
from .cohort import draw_ranks
from .contrasts import AIR_HU, CONTRASTS, UNSUPPRESSED
from .implicit import Points
from .incompressible import Chain
from .patient_anatomy import PatientAnatomy, Visit
from .patient_motion import draw_patient_motion
from .sampling import Acquired, back, slabs, with_truth
from .views import View, ct_view, draw_contrasts, draw_mr_view, draw_one_sided

_WITH_LESION = ("lesion", "pet-ct-to-mri")
_FIRST_STREAM = 10
_PET_SPACING_MM = 4.0


@dataclass(frozen=True)
class _Side:
    """One volume of the pair: how the patient lies, what is particular to the date, how she is seen and annotated."""

    anatomy: PatientAnatomy
    position: Chain
    visit: Visit
    view: View
    annotator: Annotator
    breasts: Points
    rng: np.random.Generator

    def acquire(self, spacing_mm: float) -> Acquired:
        """The volume and its masks."""
        grid = self.view.grid(spacing_mm)
        rng = self.rng
        artefacts = draw_artefacts(rng, self.breasts, fat_suppressed=self.view.contrast in UNSUPPRESSED)
        contrast = CONTRASTS[self.view.contrast]
        background = AIR_HU if self.view.contrast == "ct" else 0.0
        within = _within_slice(grid, spacing_mm)
        signals, hearts = [], []
        masks: dict[str, list[np.ndarray]] = {name: [] for name in TARGETS}
        for first, last in slabs(grid):
            centres = grid.points(first, last)
            signal = np.zeros(len(centres), np.float32)
            heart = np.zeros(len(centres), np.int8)
            votes = {name: np.zeros(len(centres), np.int8) for name in TARGETS}
            for offset in within:
                points = centres + offset
                reference = self.position.inverse(points)
                tissues = self.anatomy.at(reference, self.visit)
                failure = None
                if self.view.contrast in UNSUPPRESSED:
                    failure = (artefacts.unsuppressed(points), CONTRASTS[UNSUPPRESSED[self.view.contrast]])
                signal += paint(tissues, contrast, background, min(grid.spacing), failure) / np.float32(len(within))
                heart |= np.minimum(tissues.distance["heart"], tissues.distance["blood"]) < 0.0
                for name, mask in self.annotator(tissues, reference).items():
                    votes[name] += mask
            signals.append(signal)
            hearts.append(heart)
            for name, count in votes.items():
                masks[name].append(2 * count >= len(within))
        labels = self._labels({name: np.concatenate(parts) for name, parts in masks.items()}, grid)
        signal = np.concatenate(signals)
        if self.view.contrast == "ct":
            return Acquired(acquire_ct(signal, grid, back(labels["body"]), rng), labels, grid, "ct")
        image = acquire_spoilt_mr(signal, np.concatenate(hearts) > 0, artefacts, self.breasts, grid, rng)
        return Acquired(image, labels, grid, self.view.contrast)

    def _labels(self, masks: dict[str, np.ndarray], grid: VoxelGrid) -> dict[str, sitk.Image]:
        shape = grid.size[::-1]
        slips = self.annotator.slips
        for name, share in (("breast", slips), ("organ", slips), ("fibroglandular", 0.5 * slips)):
            masks[name] = with_slips(masks[name].reshape(shape), self.rng, share).ravel()
        masks["breast"] |= masks["lesion"]
        masks["fibroglandular"] &= masks["breast"]
        if not self.visit.lesion:
            del masks["lesion"]
        return {name: grid.image(mask.astype(np.uint8)) for name, mask in masks.items()}


def patient_pair(task: str, seed: int, spacing_mm: float) -> PhantomCase:
    """Make the pair of `make_phantom` with difficulty "patient"."""
    patient_rng, pair_rng, fixed_rng, moving_rng, point_rng = (
        np.random.default_rng([seed, TASKS.index(task), _FIRST_STREAM + stream]) for stream in range(5)
    )
    ranks = draw_ranks(seed, TASKS.index(task))
    anatomy = PatientAnatomy(patient_rng, ranks)
    motion = draw_patient_motion(pair_rng, ranks, supine=task == "pet-ct-to-mri")
    sides = []
    drawn = draw_contrasts(pair_rng, task), draw_one_sided(pair_rng)
    for name, rng, contrast, only in zip(("fixed", "moving"), (fixed_rng, moving_rng), *drawn, strict=True):
        position: Chain = getattr(motion, name)
        breasts = _box(position.forward(anatomy.breast_corners()))
        lesion = task == "pet-ct-to-mri" or (task == "lesion" and name == "moving")
        shown = position.forward(anatomy.lesion_centre()[None])[0] if task in _WITH_LESION else None
        sides.append(
            _Side(
                anatomy=anatomy,
                position=position,
                visit=anatomy.draw_visit(rng, ranks.hardness, lesion=lesion, treated=name == "moving"),
                view=ct_view(breasts) if contrast == "ct" else draw_mr_view(rng, contrast, breasts, only, shown),
                annotator=draw_annotator(rng, ranks),
                breasts=breasts,
                rng=rng,
            )
        )
    fixed, moving = (side.acquire(spacing_mm) for side in sides)
    pet = _pet(sides[1]) if task == "pet-ct-to-mri" else None
    return with_truth(task, seed, fixed, moving, anatomy, motion, point_rng, pet)


def _box(points: Points) -> Points:
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _within_slice(grid: VoxelGrid, spacing_mm: float) -> Points:
    """Offsets (N, 3) in mm from a slice's centre, over which its signal is the mean: partial volume."""
    count = max(round(grid.spacing[2] / spacing_mm), 1)
    return np.outer((np.arange(count) + 0.5) / count - 0.5, grid.spacing[2] * grid.direction[:, 2])


def _pet(side: _Side) -> sitk.Image:
    grid = VoxelGrid.covering(side.view.low - 8.0, side.view.high + 8.0, (_PET_SPACING_MM,) * 3, np.eye(3))
    reference = side.position.inverse(grid.points(0, grid.size[2]))
    return acquire_pet(side.anatomy.at(reference, side.visit), grid, side.rng)
