"""Disk cache of features, so that registering a pair again with other optimisation settings needs no encoding.

One file per pair of volumes, in a subfolder of the user's cache folder or of the folder in the environment variable
FOUNDATION_REGISTRATION_CACHE. Features show the patient's anatomy: the folder is private to the user, and
`--feature-cache-gb 0` disables the cache. Files are written under a temporary name and renamed, so that several
processes can share the folder; the least recently used are removed first. Files with other names are neither counted
nor removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..encoders import EncoderInfo
from ..files.bounded import plain_json
from ..files.user_folders import CACHE_VARIABLE, cache_root
from ..runtime.progress import Note
from ..settings import Settings
from ..weights.inspection import what_safetensors

# Increment when the same input gives other features, so that older files are not used.
FEATURE_VERSION = 1

_FOLDER = "registration-features"
_PREFIX = "registration-features-"
_FINISHED = re.compile(_PREFIX + r"\w+\.safetensors")
_UNFINISHED = re.compile(_PREFIX + r"\w+\.[0-9a-f]{32}\.part")
# An unfinished file of this age is abandoned.
_ABANDONED_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class KeptFeatures:
    """The cached part of an encoding: all that is needed to recompute features on the grid.

    Attributes:
        fixed: (N, d, h, w) reduced tokens of the slices; for volume encoders (C, z, y, x) on the pooled grid.
        moving: the same for the moving volume.
        explained_variance: of the principal components; empty without PCA.
        encoded_slices: slices of each volume; 0 for volume encoders.
        precision: arithmetic of the encoder.
        weights_sha256: of the encoder, None without weights.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    explained_variance: tuple[float, ...]
    encoded_slices: int
    precision: str
    weights_sha256: str | None


def cache_folder() -> Path | None:
    """Return the cache folder, which may not exist yet; None for a user without a home folder."""
    root = cache_root()
    return root / _FOLDER if root else None


def cache_key(
    info: EncoderInfo,
    weights: str,
    settings: Settings,
    volumes: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    square: Sequence[int],
) -> str:
    """Return a unique name for the features of two volumes.

    Features depend on the voxels on the working grid, the foregrounds, the encoded part of the slices, the encoder
    and a few settings, but not on the position of the grid or the use of the features.

    Args:
        info: properties of the encoder.
        weights: fingerprint of its weights.
        settings: of the run.
        volumes: (Z, H, W) intensities of both.
        masks: (Z, H, W) foregrounds of both.
        square: encoded part of the slices; empty for volume encoders.
    """
    names = ["grid_spacing", "input_size", "precision", "slice_gap", "components"]
    if info.kind == "volume":
        names = ["mind_radius", "mind_dilation", "adam_grid_spacing"]
    facts = {name: getattr(settings, name) for name in names}
    facts |= {"version": FEATURE_VERSION, "encoder": info.name, "weights": weights, "device": volumes[0].device.type}
    facts["square"] = list(square)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in (*volumes, *masks):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(np.ascontiguousarray(array.cpu().numpy()).data)
    return digest.hexdigest()


class FeatureCache:
    """Features of earlier runs in a folder of limited size.

    Errors do not end a registration: an unreadable file counts as absent, and a write error is reported in
    `messages`.

    Args:
        folder: cache folder, which may hold other files; created with the first file.
        limit_bytes: largest total size of the files.
    """

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self.messages: list[str] = []

    @classmethod
    def from_settings(cls, settings: Settings) -> FeatureCache | None:
        """Return the user's cache, None if the settings disable it or the user has no home folder."""
        folder = cache_folder()
        return cls(folder, settings.feature_cache_gb * 1e9) if folder and settings.feature_cache_gb else None

    def load(self, key: str) -> KeptFeatures | None:
        """Return the entry of a key and mark it as used; None if it is missing or damaged."""
        path = self._path(key)
        try:
            if what_safetensors(path) is not None:
                return None
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                fixed, moving = file.get_tensor("fixed"), file.get_tensor("moving")
            if facts["checksum"] != _checksum(fixed, moving):
                return None
            details = plain_json(facts["details"].encode())
            kept = KeptFeatures(fixed, moving, tuple(details.pop("explained_variance")), **details)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return kept

    def store(self, key: str, features: KeptFeatures) -> None:
        """Store features under a key, and remove the least recently used if there are too many."""
        tensors = {"fixed": features.fixed.cpu().contiguous(), "moving": features.moving.cpu().contiguous()}
        if sum(tensor.nbytes for tensor in tensors.values()) > self._limit:
            self.messages.append(Note("The features were not cached: they exceed --feature-cache-gb."))
            return
        details = {
            "explained_variance": features.explained_variance,
            "encoded_slices": features.encoded_slices,
            "precision": features.precision,
            "weights_sha256": features.weights_sha256,
        }
        facts = {"details": json.dumps(details), "checksum": _checksum(**tensors)}
        unfinished = self._folder / f"{_PREFIX}{key}.{uuid.uuid4().hex}.part"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_file(tensors, unfinished, metadata=facts)
            unfinished.replace(self._path(key))
            self._make_room()
        except (OSError, SafetensorError) as error:
            why = " ".join(str(error).split())
            self.messages.append(
                Note(
                    f"The features were not cached: {self._folder} cannot be written ({why}); set "
                    f"{CACHE_VARIABLE} to another folder."
                )
            )
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_PREFIX}{key}.safetensors"

    def _make_room(self) -> None:
        """Remove abandoned unfinished files, then the least recently used ones, down to the limit.

        Only files of this cache, by name and type.
        """
        finished: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    continue
                if _FINISHED.fullmatch(path.name):
                    finished.append((status.st_mtime, status.st_size, path))
                elif _UNFINISHED.fullmatch(path.name) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        taken = sum(size for _, size, _ in finished)
        for _, size, path in sorted(finished)[:-1]:
            if taken <= self._limit:
                break
            with contextlib.suppress(OSError):  # in use by another process, or already removed
                path.unlink()
            taken -= size


def _checksum(fixed: torch.Tensor, moving: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in (fixed, moving):
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
