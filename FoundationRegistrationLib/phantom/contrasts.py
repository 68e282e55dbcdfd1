"""What each tissue looks like in each sequence and in CT and PET."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Contrast = dict[str, tuple[float, float, float]]
"""Tissue name to (mean, amplitude of coarse texture, amplitude of fine texture)."""

_T1: Contrast = {
    "skin": (330, 15, 15),
    "fat": (820, 34, 22),
    "gland": (350, 34, 30),
    "cyst": (190, 0, 5),
    "muscle": (255, 10, 16),
    "fascia": (480, 30, 20),
    "cartilage": (300, 10, 10),
    "cortex": (110, 5, 5),
    "marrow": (520, 30, 30),
    "lung": (40, 8, 12),
    "mediastinum": (640, 40, 30),
    "abdomen": (690, 40, 30),
    "stomach": (230, 50, 30),
    "spleen": (250, 8, 8),
    "liver": (370, 12, 12),
    "oesophagus": (260, 10, 10),
    "heart": (280, 12, 12),
    "blood": (190, 18, 14),
    "lesion": (280, 10, 20),
}
_T1_FAT_SUPPRESSED_ENHANCED: Contrast = _T1 | {
    "skin": (400, 20, 15),
    "fat": (150, 14, 9),
    "gland": (390, 32, 36),
    "cyst": (170, 0, 5),
    "muscle": (300, 10, 16),
    "fascia": (200, 15, 15),
    "cartilage": (240, 10, 10),
    "marrow": (210, 15, 15),
    "mediastinum": (190, 20, 15),
    "abdomen": (180, 20, 15),
    "spleen": (580, 15, 12),
    "liver": (500, 12, 12),
    "oesophagus": (320, 10, 10),
    "heart": (520, 14, 12),
    "blood": (800, 22, 16),
    "lesion": (880, 50, 70),
}
_T2_FAT_SUPPRESSED: Contrast = _T1 | {
    "skin": (300, 15, 15),
    "fat": (120, 14, 9),
    "gland": (440, 60, 55),
    "cyst": (1050, 0, 10),
    "muscle": (170, 8, 10),
    "fascia": (150, 10, 10),
    "cartilage": (260, 10, 10),
    "cortex": (60, 5, 5),
    "marrow": (180, 15, 12),
    "lung": (35, 8, 10),
    "mediastinum": (160, 15, 15),
    "abdomen": (160, 15, 15),
    "stomach": (620, 120, 30),
    "spleen": (480, 10, 10),
    "liver": (250, 12, 12),
    "oesophagus": (280, 10, 10),
    "heart": (260, 12, 12),
    "blood": (130, 45, 18),
    "lesion": (600, 40, 60),
}
_CT: Contrast = {
    "skin": (20, 3, 3),
    "fat": (-102, 6, 5),
    "gland": (38, 6, 6),
    "cyst": (8, 0, 2),
    "muscle": (55, 3, 5),
    "fascia": (-40, 10, 10),
    "cartilage": (110, 8, 10),
    "cortex": (640, 60, 60),
    "marrow": (230, 30, 35),
    "lung": (-830, 18, 24),
    "mediastinum": (-85, 8, 6),
    "abdomen": (-100, 6, 6),
    "stomach": (20, 10, 6),
    "spleen": (48, 2, 2),
    "liver": (56, 2, 2),
    "oesophagus": (35, 4, 4),
    "heart": (48, 2, 2),
    "blood": (42, 2, 2),
    "lesion": (52, 4, 6),
}
PET: Contrast = {
    "skin": (0.5, 0, 0),
    "fat": (0.4, 0.05, 0),
    "gland": (1.0, 0.12, 0),
    "muscle": (0.75, 0.05, 0),
    "cortex": (0.9, 0, 0),
    "marrow": (1.4, 0.1, 0),
    "lung": (0.5, 0.04, 0),
    "mediastinum": (0.8, 0.05, 0),
    "abdomen": (0.7, 0.05, 0),
    "stomach": (1.5, 0.15, 0),
    "spleen": (1.9, 0.1, 0),
    "liver": (2.4, 0.15, 0),
    "heart": (2.7, 0.15, 0),
    "blood": (1.7, 0.08, 0),
}
_FOREIGN: Contrast = {"implant": (150, 0, 4), "clip": (3, 0, 0)}
_T1_FAT_SUPPRESSED: Contrast = _T1_FAT_SUPPRESSED_ENHANCED | {
    "skin": (340, 15, 15),
    "gland": (360, 30, 32),
    "muscle": (270, 10, 14),
    "spleen": (300, 10, 10),
    "liver": (380, 12, 12),
    "heart": (290, 12, 12),
    "blood": (210, 18, 14),
    "lesion": (330, 12, 24),
}
_T2: Contrast = _T2_FAT_SUPPRESSED | {
    "fat": (700, 30, 20),
    "fascia": (420, 30, 20),
    "marrow": (430, 30, 25),
    "mediastinum": (560, 40, 25),
    "abdomen": (600, 40, 25),
}
_T2_IMPLANT = {"implant": (900.0, 0.0, 6.0)}
CONTRASTS: Mapping[str, Contrast] = MappingProxyType(
    {
        "t1": _T1 | _FOREIGN,
        "t1-fs": _T1_FAT_SUPPRESSED | _FOREIGN,
        "t1-fs-enhanced": _T1_FAT_SUPPRESSED_ENHANCED | _FOREIGN,
        "t2": _T2 | _FOREIGN | _T2_IMPLANT,
        "t2-fs": _T2_FAT_SUPPRESSED | _FOREIGN | _T2_IMPLANT,
        "ct": _CT | {"implant": (95, 0, 3), "clip": (2600, 0, 0)},
    }
)
UNSUPPRESSED: Mapping[str, str] = MappingProxyType({"t1-fs": "t1", "t1-fs-enhanced": "t1", "t2-fs": "t2"})
"""Sequences that suppress fat, and what fat looks like in them where that fails."""
FATTY = ("fat", "fascia", "marrow", "mediastinum", "abdomen")
AIR_HU = -1000.0
