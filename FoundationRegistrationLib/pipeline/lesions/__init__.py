"""Lesions marked by the user keep size and shape: the transform is rigid on each of them."""

from .measuring import LesionVolume, lesion_volumes
from .preservation import keep_lesions
from .regions import Lesion, find_lesions

__all__ = ["Lesion", "LesionVolume", "find_lesions", "keep_lesions", "lesion_volumes"]
