"""One volume of a registration as given, checked and prepared; a fixed volume can be used for many moving ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import SimpleITK as sitk

from ..settings import Settings
from .deformation.stages import Side
from .lesions import Lesion, find_lesions
from .preprocessing.prepared_volume import PreparedVolume, prepare, without_intensities


@dataclass(frozen=True)
class GivenVolume:
    """A fixed or moving volume with what belongs to it.

    Attributes:
        role: "fixed" or "moving".
        image: the volume as given.
        prepared: its intensities and foreground, for the encoders.
        mask: region to register, on its grid; None for the foreground.
        lesion: lesions on its grid, None without.
        lesions: each of them, in boxes no larger than the cells of the finest displacement field.
    """

    role: str
    image: sitk.Image
    prepared: PreparedVolume
    mask: sitk.Image | None
    lesion: sitk.Image | None
    lesions: tuple[Lesion, ...]

    @classmethod
    def of(cls, role: str, images: Mapping[str, sitk.Image], settings: Settings) -> GivenVolume:
        """Prepare one side of a registration.

        Args:
            role: "fixed" or "moving".
            images: its checked volume by the role; a mask and lesions, if any, by "fixed_mask", "fixed_lesion" etc.
            settings: modality and working spacing.

        Raises:
            InputError: a mask or lesion cannot be used, or nothing of the volume can.
        """
        image, mask, lesion = images[role], images.get(f"{role}_mask"), images.get(f"{role}_lesion")
        lesions = () if lesion is None else find_lesions(lesion, image, role, settings.working_spacing_mm)
        modality = settings.fixed_modality if role == "fixed" else settings.moving_modality
        if settings.compares_intensities:
            prepared = prepare(image, modality, role, mask)
        else:
            prepared = without_intensities(image, role, mask)
        return cls(role, image, prepared, mask, lesion, tuple(lesions))

    def side(self, transform: sitk.Transform) -> Side:
        """Return it for the deformable stages; the transform maps fixed points to its points, LPS mm."""
        return Side(self.role, self.prepared, transform, self.mask is not None, self.lesion)

    def images(self) -> dict[str, sitk.Image]:
        """Return the images that were given, by role."""
        of_roles = {self.role: self.image, f"{self.role}_mask": self.mask, f"{self.role}_lesion": self.lesion}
        return {role: image for role, image in of_roles.items() if image is not None}
