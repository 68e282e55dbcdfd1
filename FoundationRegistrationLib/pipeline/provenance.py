"""Provenance of a run for its record: software, device, encoders, volumes."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from typing import Any

import SimpleITK as sitk
import torch

from .. import __version__
from ..features import FeaturePair
from ..runtime.device import describe_device
from ..runtime.versions import versions
from ..settings import Settings
from ..spatial.grids import content_sha256
from .preprocessing.prepared_volume import PreparedVolume


def environment(settings: Settings, device: torch.device, features: Mapping[str, FeaturePair]) -> dict[str, Any]:
    """Return versions, device, settings and encoders of a run, as plain values."""
    return {
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": settings.to_dict(),
        "versions": versions(__version__),
        "platform": platform.platform(),
        "device": describe_device(device),
        "weights_sha256": {name: pair.weights_sha256 for name, pair in features.items()},
        "precision": {name: pair.precision for name, pair in features.items()},
    }


def described_grid(image: sitk.Image) -> dict[str, Any]:
    """Return size and geometry of a volume, as plain values."""
    return {
        "size": list(image.GetSize()),
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(image.GetDirection()),
    }


def described_volume(image: sitk.Image, prepared: PreparedVolume) -> dict[str, Any]:
    """Return size, geometry, modality and content hash of a volume, as plain values."""
    return {
        **described_grid(image),
        "pixel_type": image.GetPixelIDTypeAsString(),
        "content_sha256": content_sha256(image),
        "modality": prepared.modality,
    }
