"""The result of a registration."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..files.outputs import staged_folder
from ..files.results import RESULTS
from ..io.arrays import Space, VolumeLike, array_from_volume, as_volume
from ..io.landmarks import Landmarks
from ..io.segmentations import Segmentation
from ..runtime.progress import Note
from ..spatial.points import transform_points
from .assessment.verdict import Verdict
from .deformation.intermediate import Intermediate
from .propagation.extent import Extent, covers, output_grid
from .propagation.images import propagate_image
from .propagation.segmentations import propagate_segmentation

_LOGGER = logging.getLogger(__name__)
Side = Literal["fixed", "moving"]


@dataclass(frozen=True, eq=False, repr=False)
class RegistrationResult:
    """The result of a registration.

    Attributes:
        fixed: the fixed volume as given.
        moving: the moving volume as given.
        transform: maps fixed points to moving points, LPS mm; resamples the moving volume onto the fixed one.
        inverse: maps moving points to fixed points, LPS mm.
        initial_transform: the part of `transform` before the deformable stages. In a rigid or affine run, the start
            that was given, or found by `initialization` none, center or moments; else `transform` itself.
        warped: the moving volume on the grid of the fixed one, resampled in one step, in its own pixel type.
        displacement: transform(x) - x of the whole transform, a vector image in LPS mm on the grid of the cells;
            outside it the transform is `initial_transform`. In a rigid or affine run it is sampled around the
            anatomy.
        jacobian: determinant of the spatial Jacobian of `transform`, on that grid: local volume, moving over fixed.
        deformation: u of the deformable part alone, on that grid; transform(x) = initial_transform(x + u(x)).
            This and the next two are None in a rigid or affine run.
        expected_error: of `transform`, mm, on that grid, from a model fitted on pairs with known truth; NaN where
            nothing was compared: in air and outside either field of view.
        error_predictors: the predictors of `expected_error`, one component for each of `PREDICTORS`, on the grid of
            the cells; NaN where nothing was compared.
        focus: labels on the grid of the fixed volume that the overview cuts through: the largest lesion, else the
            structures that drove; None without.
        verdict: whether to trust the result, "good", "check" or "failed", with the reasons.
        metrics: agreement, folding, inverse consistency error, explained variance and energies, as plain numbers.
        timings: seconds of each step.
        peak_memory: bytes, of this process ("host") and of the accelerator ("device").
        feature_preview: if requested, the first three components of the features of the fixed and the moving volume
            as colours, both in fixed space before the deformable stages.
        intermediate: if requested, the features, and the displacement after each stage.
        messages: warnings and notes about the run, the most serious first.
        record: settings, versions, device, weights and inputs, for repeating the run.
    """

    fixed: sitk.Image
    moving: sitk.Image
    transform: sitk.Transform
    inverse: sitk.Transform
    initial_transform: sitk.Transform
    warped: sitk.Image
    displacement: sitk.Image
    jacobian: sitk.Image
    deformation: sitk.Image | None
    expected_error: sitk.Image | None
    error_predictors: sitk.Image | None
    focus: sitk.Image | None
    verdict: Verdict
    metrics: Mapping[str, Any]
    timings: Mapping[str, float]
    peak_memory: Mapping[str, int]
    feature_preview: tuple[sitk.Image, sitk.Image] | None
    intermediate: Intermediate | None
    messages: tuple[str, ...]
    record: Mapping[str, Any]

    def __repr__(self) -> str:
        settings = self.record["settings"]
        how = f"encoder {settings['encoder']}" if self.deformation is not None else settings["stages"]
        return (
            f"<RegistrationResult: {self.verdict.level}, preset {settings['preset']}, {how}, "
            f"messages: {len(self.messages)}>"
        )

    def _repr_html_(self) -> str:
        """Return the notebook display: messages, key figures and the overview."""
        from .overview import notebook_page

        return notebook_page(self)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        fixed_labels: VolumeLike | None = None,
        moving_labels: VolumeLike | None = None,
        fixed_landmarks: Landmarks | np.ndarray | None = None,
        moving_landmarks: Landmarks | np.ndarray | None = None,
        maps: bool = False,
    ) -> None:
        """Write what `foundation-registration register` writes: transforms, warped volume, report and overview.

        The files are written all together or not at all; those of an earlier run are replaced, others are kept.

        Args:
            folder: created if it does not exist.
            fixed_labels: label map on the grid of the fixed volume, to measure Dice and to outline in the overview.
            moving_labels: the same on the grid of the moving volume; a structure has the same value in both.
            fixed_landmarks: points in the fixed volume to measure the target registration error, (N, 3) in LPS mm.
            moving_landmarks: the corresponding points in the moving volume.
            maps: also write the Jacobian and the expected error as volumes.

        Raises:
            InputError: labels or landmarks cannot be used, or are given for one side only.
            OutputError: the folder cannot be written.
        """
        from .saving import labels_of, landmarks_of, write_results

        labels = labels_of(self, fixed_labels, moving_labels)
        landmarks = landmarks_of(fixed_landmarks, moving_landmarks)
        with staged_folder(folder, replaced=RESULTS) as staging:
            write_results(staging, self, labels=labels, landmarks=landmarks, maps=maps)

    def displacement_array(self, space: Space = "RAS") -> tuple[np.ndarray, np.ndarray]:
        """Return `displacement` as an array with its affine.

        Args:
            space: of the components and of the affine, "RAS" or "LPS".

        Returns:
            Displacements (i, j, k, 3) in mm, from a fixed point to its moving point, float64.
            The affine (4, 4) from voxel indices (i, j, k) to the fixed point in mm.

        Raises:
            InputError: the space is neither of these.
        """
        array, affine = array_from_volume(self.displacement, space)
        return (array * (-1.0, -1.0, 1.0) if space == "RAS" else array), affine

    def warp_image(
        self,
        image: VolumeLike,
        to: Side = "fixed",
        interpolation: str = "linear",
        *,
        extent: Extent | None = None,
        spacing_mm: float | None = None,
    ) -> sitk.Image:
        """Resample a volume of one side, such as the PET of a moving PET-CT, in one step onto the grid of the other.

        Losses are logged as warnings.

        Args:
            image: volume in moving space, or in fixed space if it goes to the moving side; on any grid.
            to: the side of the result.
            interpolation: "linear" or "bspline".
            extent: the field of view of the result: that of the volume in fixed space, in moving space, or "union".
                That of the side of the result if None.
            spacing_mm: isotropic voxel spacing of the result; that of its side if None.

        Raises:
            InputError: it is not a 3D volume, or does not overlap with the other side, or the result is too large.
        """
        reference, transform, inverse = self._way(to)
        given = as_volume(image, "given")
        if extent is not None or spacing_mm is not None:
            reference = output_grid(reference, given, inverse, covers(extent, to), spacing_mm)
        messages: list[str] = []
        warped = propagate_image(given, reference, transform, interpolation, messages)
        _warn(messages)
        return warped

    def warp_labels(self, labels: VolumeLike, to: Side = "fixed") -> sitk.Image:
        """Resample a label map of one side in one step onto the grid of the other, without new labels.

        Lost or cut-off structures are logged as warnings, the volumes of all as information.

        Args:
            labels: label map in moving space, or in fixed space if it goes to the moving side; 0 is background.
            to: the side of the result.

        Raises:
            InputError: it is empty, holds fractions, or does not overlap with the other side.
        """
        from ..io.volumes import whole_numbers

        reference, transform, inverse = self._way(to)
        whole = whole_numbers(as_volume(labels, "given"), "The given label map")
        messages: list[str] = []
        carried = propagate_segmentation(Segmentation((whole,)), reference, transform, inverse, messages)
        _warn(messages)
        return carried.layers[0]

    def transform_points(self, points: np.ndarray, to: Side) -> np.ndarray:
        """Map points of one side to the other.

        Args:
            points: (N, 3) in LPS mm: moving points if `to` is "fixed", else fixed points.
            to: the side of the result.

        Returns:
            The mapped points, (N, 3) in LPS mm.

        Raises:
            InputError: they are not (N, 3) finite numbers.
        """
        _, _, inverse = self._way(to)
        return transform_points(inverse, Landmarks(("",) * len(points), np.asarray(points)).points)

    def _way(self, to: Side) -> tuple[sitk.Image, sitk.Transform, sitk.Transform]:
        """Return the volume on a side, the transform that resamples onto it, and the one that maps points to it."""
        if to not in ("fixed", "moving"):
            msg = f"`to` must be 'fixed' or 'moving', not {to!r}."
            raise InputError(msg)
        if to == "fixed":
            return self.fixed, self.transform, self.inverse
        return self.moving, self.inverse, self.transform


def _warn(messages: list[str]) -> None:
    for message in messages:
        _LOGGER.log(logging.INFO if isinstance(message, Note) else logging.WARNING, message)
