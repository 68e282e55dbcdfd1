"""Structures and points that the user marked in both volumes, and that drive the registration."""

from .correspondences import Driving
from .points import DrivingPoints
from .structures import StructureAgreement, StructurePair, Structures, measure_structures

__all__ = ["Driving", "DrivingPoints", "StructureAgreement", "StructurePair", "Structures", "measure_structures"]
