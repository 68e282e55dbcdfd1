"""The pairs that are registered: sound ones with a known truth, and sabotaged ones that no program can register."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from comparison import brains, breasts
from comparison.case import Case
from comparison.phantoms import phantom_sources
from comparison.warps import drawn_warp

from FoundationRegistrationLib.spatial.points import physical_points, transform_points

_ANOTHER_PATIENT = 50  # added to the seed
_FAR_START = "start 80 mm off"
_FAR_START_MM = (0.0, 50.0, 62.0)
_WARP_MM = 8.0
_NOISE = 0.02
_POINTS = 6000


@dataclass(frozen=True)
class Trial:
    """A pair to register.

    Attributes:
        name: unique, fit for a file name.
        group: anatomy and kind of images, for the tables.
        kind: "sound", or how it was sabotaged.
        build: makes the pair; without points where there is no right answer.
        initial: a start to be given, fixed to moving points, LPS mm.
    """

    name: str
    group: str
    kind: str
    build: Callable[[], Case]
    initial: sitk.Transform | None = None


def phantom_trials(seeds: tuple[int, ...], spacing_mm: float) -> Iterator[Trial]:
    """Yield the phantoms of all tasks: each sound, with another patient's moving volume, and sabotaged in one way."""
    ways = [*SABOTAGES, _FAR_START]
    for number, source in enumerate(phantom_sources(seeds, spacing_mm)):
        made = functools.lru_cache(1)(source.build)
        yield Trial(source.name, source.group, "sound", made)
        seed = seeds[number % len(seeds)]
        (other,) = (s for s in phantom_sources((seed + _ANOTHER_PATIENT,), spacing_mm) if s.group == source.group)
        stranger = functools.partial(_moving_of, other.build)
        yield Trial(f"{source.name}-other", source.group, "another patient", _with_moving(made, stranger))
        way = ways[(seed + 2 * number) % len(ways)]
        short = way.replace(" ", "-")
        if way == _FAR_START:
            yield Trial(
                f"{source.name}-{short}", source.group, way, made, sitk.TranslationTransform(3, _FAR_START_MM)
            )
        else:
            yield Trial(f"{source.name}-{short}", source.group, way, _sabotaged(made, way))


def easy_trials(seeds: tuple[int, ...], spacing_mm: float) -> Iterator[Trial]:
    """Yield the easy phantoms of all tasks, which most programs register accurately."""
    for source in phantom_sources(seeds, spacing_mm, "easy"):
        yield Trial(source.name, source.group, "sound", source.build)


def real_trials(data: Path, seed: int) -> Iterator[Trial]:
    """Yield the real and anthropomorphic pairs with a known warp drawn from a seed, and wrong ones made of them."""
    first, second = (functools.partial(_brain, data, name) for name in ("Subj8", "Subj5"))
    for name, image in (("first", first), ("second", second)):
        made = functools.lru_cache(1)(functools.partial(_warped_brain, image, seed))
        yield Trial(f"brain-{name}-{seed}", "brain T1", "sound", made)
        yield Trial(f"brain-{name}-{seed}-down", "brain T1", "upside down", _sabotaged(made, "upside down"))
        yield Trial(f"brain-{name}-{seed}-mirrored", "brain T1", "mirrored", _sabotaged(made, "mirrored"))
    yield Trial("brain-other", "brain T1", "another patient", functools.partial(_mistaken, data))
    for sequence in ("FLAIR", "T1W"):
        made = functools.partial(brains.follow_up, data / "ms_longitudinal", sequence)
        group = f"brain FLAIR, follow-up {sequence}"
        yield Trial(f"ms-{sequence}", group, "sound", made)
        yield Trial(f"ms-{sequence}-other", group, "another patient", _with_moving(made, second))
    patch = functools.lru_cache(1)(functools.partial(breasts.patch, data / "breast_mr_patch", seed))
    yield Trial(f"patch-{seed}", "breast MR patch", "sound", patch)
    yield Trial(f"patch-{seed}-brain", "breast MR patch", "another body part", _with_moving(patch, first))
    victre = functools.lru_cache(1)(functools.partial(breasts.victre, data / "breast_phantom_victre"))
    yield Trial("victre", "VICTRE breast", "sound", victre)
    yield Trial("victre-down", "VICTRE breast", "upside down", _sabotaged(victre, "upside down"))


def _reoriented(image: sitk.Image, change: Callable[[np.ndarray], np.ndarray]) -> sitk.Image:
    """Return a volume whose voxels (z, y, x), in LPS order, were changed as a wrong header would show them."""
    oriented = sitk.DICOMOrient(image, "LPS")
    changed = sitk.GetImageFromArray(np.ascontiguousarray(change(sitk.GetArrayFromImage(oriented))))
    turned = changed.GetSize() != oriented.GetSize()
    x, y, z = oriented.GetSpacing()
    changed.SetSpacing((y, x, z) if turned else (x, y, z))
    changed.SetOrigin(oriented.GetOrigin())
    return changed


def _upper_half(image: sitk.Image) -> sitk.Image:
    oriented = sitk.DICOMOrient(image, "LPS")
    return oriented[:, :, oriented.GetSize()[2] // 2 :]


SABOTAGES: Mapping[str, Callable[[sitk.Image], sitk.Image]] = {
    "upside down": lambda image: _reoriented(image, lambda voxels: voxels[::-1]),
    "turned by 180°": lambda image: _reoriented(image, lambda voxels: voxels[:, ::-1, ::-1]),
    "turned by 90°": lambda image: _reoriented(image, lambda voxels: np.rot90(voxels, 1, (1, 2))),
    "mirrored": lambda image: _reoriented(image, lambda voxels: voxels[:, :, ::-1]),
    "half outside": _upper_half,
}


def _sabotaged(make: Callable[[], Case], way: str) -> Callable[[], Case]:
    change = SABOTAGES[way]

    def build() -> Case:
        case = make()
        moving = change(case.moving)
        if way != "half outside":
            return _pair(case, moving)
        indices = [moving.TransformPhysicalPointToContinuousIndex(point) for point in case.moving_points.tolist()]
        inside = ((np.array(indices) >= 0) & (np.array(indices) <= np.array(moving.GetSize()) - 1)).all(1)
        return _pair(case, moving, case.fixed_points[inside], case.moving_points[inside])

    return build


def _with_moving(make: Callable[[], Case], moving: Callable[[], sitk.Image]) -> Callable[[], Case]:
    return lambda: _pair(make(), moving())


def _pair(case: Case, moving: sitk.Image, points: np.ndarray | None = None, moved: np.ndarray | None = None) -> Case:
    """Return a pair of the fixed volume of a case and another moving one, without a start from its headers."""
    return Case(
        fixed=case.fixed,
        moving=moving,
        body=case.body,
        preset=case.preset,
        spacing_mm=case.spacing_mm,
        fixed_points=points,
        moving_points=moved,
    )


def _moving_of(build: Callable[[], Case]) -> sitk.Image:
    return build().moving


def _brain(data: Path, name: str) -> sitk.Image:
    return sitk.ReadImage(str(data / "brain_intersubject" / f"{name}_T1.nii.gz"), sitk.sitkFloat32)


def _mistaken(data: Path) -> Case:
    """Return two people with the preset of someone who takes them for one."""
    return dataclasses.replace(brains.two_subjects(data / "brain_intersubject"), preset="longitudinal")


def _warped_brain(image: Callable[[], sitk.Image], seed: int) -> Case:
    """Return a brain as the moving volume, and seen through a smooth warp, with noise, as the fixed one."""
    moving = image()
    truth = drawn_warp(moving, _WARP_MM, seed)
    fixed = sitk.Resample(moving, moving, truth, sitk.sitkBSpline, 0.0, sitk.sitkFloat32)
    mask = sitk.Cast(fixed > 0, sitk.sitkUInt8)
    rng = np.random.default_rng(seed)
    values = sitk.GetArrayFromImage(fixed)
    noisy = sitk.GetImageFromArray(values + rng.normal(0.0, _NOISE * values.max(), values.shape).astype(np.float32))
    noisy.CopyInformation(fixed)
    voxels = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)
    points = physical_points(mask, voxels[rng.permutation(len(voxels))[:_POINTS], ::-1])
    return Case(
        fixed=noisy,
        moving=moving,
        body=mask,
        preset="longitudinal",
        fixed_points=points,
        moving_points=transform_points(truth, points),
    )
