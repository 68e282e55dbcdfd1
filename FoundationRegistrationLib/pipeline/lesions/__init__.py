"""Lesions that a user marks keep size and shape: on each of them the transform is a rigid motion."""

from .measuring import LesionVolume, lesion_volumes
from .preservation import keep_lesions
from .regions import Lesion, find_lesions

__all__ = ["Lesion", "LesionVolume", "find_lesions", "keep_lesions", "lesion_volumes"]
