"""Registering frames onto a target: what is prepared once, and the registration of one frame."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import SimpleITK as sitk

from ..errors import InputError
from ..evaluation.jacobian import jacobian_determinant, jacobian_summary
from ..pipeline.deformation.working_grid import choose_grid
from ..pipeline.given import GivenVolume
from ..pipeline.method import Method
from ..pipeline.preprocessing.masks import checked_mask, mask_on_grid_of
from ..pipeline.provenance import described_volume
from ..pipeline.registration import register_given
from ..pipeline.result import RegistrationResult
from ..runtime.progress import Progress
from ..settings import Settings
from ..spatial.checks import check_volume
from ..spatial.grids import WorkingGrid
from .figures import motion_mm
from .frames import Series
from .result import FrameResult, left_as_it_was
from .slices import SlicePlane

_IN_PLANE = (
    "Each frame is a single slice: only motion within the slice can be corrected; motion through it cannot be seen. "
    "The expected error and the verdict are of the motion within the slice."
)
_NOT_LINEAR = (
    "A series of single slices is registered by a deformation within its plane, not by a linear transform; leave out "
    "stages."
)
_NOT_ROTATED = "A single slice does not determine a rotation out of its plane: the frames start as they are."


@dataclasses.dataclass(frozen=True, eq=False)
class Onto:
    """What is prepared once to register the frames of a series onto one volume.

    Attributes:
        target: the volume as given.
        fixed: the same, prepared; of a single slice, its slab.
        method: suited to the voxels of all frames.
        working: working grid of all frames.
        plane: of a series of single slices, None for volumes.
        messages: notes and warnings about the series.
    """

    target: sitk.Image
    fixed: GivenVolume
    method: Method
    working: WorkingGrid
    plane: SlicePlane | None
    messages: tuple[str, ...]

    @classmethod
    def of(cls, target: sitk.Image, series: Series, settings: Settings, mask: sitk.Image | None = None) -> Onto:
        """Prepare a target.

        Args:
            target: checked volume that the frames are registered to.
            series: the frames.
            settings: all parameters.
            mask: region of the target to register, on its grid; the foreground is segmented if None.

        Raises:
            InputError: the target or the mask cannot be used, or there is not enough memory.
            SettingsError: an unknown encoder or an unavailable device.
            WeightsError: weights are missing or damaged.
        """
        messages = []
        plane = SlicePlane.of(target) if series.is_single_slice else None
        if plane is not None:
            if settings.is_linear:
                raise InputError(_NOT_LINEAR)
            messages.append(_IN_PLANE)
            if settings.initialization in ("rigid", "affine"):
                settings = dataclasses.replace(settings, initialization="none")
                messages.append(_NOT_ROTATED)
        images = {"fixed": target}
        if mask is not None:
            images["fixed_mask"] = checked_mask(mask, target, "reference")
        if plane is not None:
            images = {role: plane.slab(image, "reference") for role, image in images.items()}
        frames = series.frames if plane is None else (images["fixed"],)
        method = Method.of(settings).suited_to(*(frame.GetSpacing() for frame in frames))
        for source in method.sources:
            source.keeps_fixed = True
        fixed = GivenVolume.of("fixed", images, method.settings)
        working, more = choose_grid(
            fixed.prepared,
            fixed.prepared,
            sitk.TranslationTransform(3),
            method.settings,
            method.infos,
            method.stages,
            method.runtime.device,
        )
        return cls(target, fixed, method, working, plane, (*messages, *more))

    @cached_property
    def foreground(self) -> sitk.Image:
        """The mask of the target if there is one, else of the anatomy in it, LPS; may be on a coarser grid."""
        mask = self.fixed.prepared.foreground
        return mask if self.plane is None else self.plane.on_slice(mask, self.target)

    def register(self, frame: sitk.Image, index: int, steps: Progress) -> FrameResult:
        """Register one frame.

        Args:
            frame: the frame.
            index: its number, for messages.
            steps: receives the steps of `Method.shares`.

        Raises:
            InputError: it cannot be registered.
            WeightsError: weights are missing or damaged.
            RegistrationCancelledError: the caller cancelled the run.
        """
        steps.start("preparation")
        check_volume(frame, f"frame {index}")
        image = frame if self.plane is None else self.plane.slab(frame, f"frame {index}")
        moving = GivenVolume.of("moving", {"moving": image}, self.method.settings)
        result = register_given(self.fixed, moving, self.method, steps, working=self.working)
        messages = (*self._reasons(result), *result.messages)
        report = self._report(result, frame, moving)
        if result.verdict.level == "failed":
            return left_as_it_was("failed", messages, "failed", report)
        transform, inverse, displacement = self._in_space(result)
        folded = jacobian_summary(
            jacobian_determinant(displacement), mask_on_grid_of(self.fixed.prepared.foreground, displacement)
        )
        return FrameResult(
            "registered",
            transform,
            inverse,
            result.verdict.level,
            messages,
            motion_mm(transform, self.foreground),
            folded["folded_percent"],
            report,
        )

    def _in_space(self, result: RegistrationResult) -> tuple[sitk.Transform, sitk.Transform, sitk.Image]:
        """Return transform and inverse in LPS mm, and the displacement to look for folding in."""
        if self.plane is None:
            return result.transform, result.inverse, result.displacement
        return self.plane.in_space(result.initial_transform, result.deformation, self.working)

    def _reasons(self, result: RegistrationResult) -> tuple[str, ...]:
        """Return the reasons for the verdict; for a slice without its parts, since its axes are not the patient's."""
        if self.plane is None or result.verdict.level == "good":
            return result.verdict.reasons
        if result.metrics["fine_structure"] is None:
            return ("Too little of the anatomy is inside both slices to judge the result.",)
        if result.verdict.level == "failed":
            return (
                "Within the slice, fine structure agrees no better than in a failed registration; the frame was left "
                "as it was.",
            )
        return (
            "Within the slice, fine structure agrees less in some part than after a good registration; check it "
            "by eye.",
        )

    def _report(self, result: RegistrationResult, frame: sitk.Image, moving: GivenVolume) -> dict[str, object]:
        """Return what a registration reports, about the volumes as given."""
        return {
            "metrics": result.metrics,
            "timings_seconds": result.timings,
            "peak_memory_bytes": result.peak_memory,
            **result.record,
            "fixed": described_volume(self.target, self.fixed.prepared),
            "moving": described_volume(frame, moving.prepared),
        }
