"""Features kept on disk, so that registering a pair again with other optimisation settings encodes nothing.

A file for each pair of volumes, in a folder of its own within the user's cache folder or where the environment
variable FOUNDATION_REGISTRATION_CACHE says. Features show the patient's anatomy: the folder is private to the user,
and `--feature-cache-gb 0` keeps nothing. Files appear whole (written under another name, then moved), so that any
number of processes may share the folder; those used longest ago are removed first. Files of other names are not
counted and never removed, whoever put them there.
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
from ..files.user_folders import expanded, user_cache
from ..runtime.progress import Note
from ..settings import Settings
from ..weights.inspection import what_safetensors

CACHE_VARIABLE = "FOUNDATION_REGISTRATION_CACHE"
# To be raised whenever the same input gives other features, so that older files are not taken.
FEATURE_VERSION = 1

_FOLDER = "registration-features"
_PREFIX = "registration-features-"
_FINISHED = re.compile(_PREFIX + r"\w+\.safetensors")
_UNFINISHED = re.compile(_PREFIX + r"\w+\.[0-9a-f]{32}\.part")
# A file that another process began to write this long ago will not be finished.
_ABANDONED_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class KeptFeatures:
    """What is kept of an encoding: all it takes to make features on the grid again.

    Attributes:
        fixed: (N, d, h, w) reduced tokens of the slices; for volume encoders (C, z, y, x) on the pooled grid.
        moving: the same for the moving volume.
        explained_variance: of the principal components; empty without PCA.
        encoded_slices: slices of each volume; 0 for volume encoders.
        precision: arithmetic of the encoder.
        weights_sha256: of the encoder, None where there are none.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    explained_variance: tuple[float, ...]
    encoded_slices: int
    precision: str
    weights_sha256: str | None


def cache_folder() -> Path | None:
    """Return the folder of kept features, which may not exist yet; None for a user without a home folder."""
    given = os.environ.get(CACHE_VARIABLE)
    root = expanded(given) if given else user_cache()
    return root / _FOLDER if root else None


def cache_key(
    info: EncoderInfo,
    weights: str,
    settings: Settings,
    volumes: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
) -> str:
    """Return a name for the features of two volumes that no other input shares.

    Features follow from the voxels on the working grid, the foregrounds, the encoder and a few settings; where
    the grid lies in space, and what is done with the features, does not matter.

    Args:
        info: facts of the encoder.
        weights: what tells its weights from any others.
        settings: of the run.
        volumes: (Z, H, W) intensities of both.
        masks: (Z, H, W) foregrounds of both.
    """
    names = ["grid_spacing", "input_size", "precision", "slice_gap", "components"]
    if info.kind == "volume":
        names = ["mind_radius", "mind_dilation", "adam_grid_spacing"]
    facts = {name: getattr(settings, name) for name in names}
    facts |= {"version": FEATURE_VERSION, "encoder": info.name, "weights": weights, "device": volumes[0].device.type}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in (*volumes, *masks):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(np.ascontiguousarray(array.cpu().numpy()).data)
    return digest.hexdigest()


class FeatureCache:
    """Features of earlier runs in a folder of bounded size.

    Nothing here ends a registration: a file that cannot be read is treated as absent, and if none can be written
    `messages` says so.

    Args:
        folder: of the files, which may hold others; made when the first is written.
        limit_bytes: most the files may take together.
    """

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self.messages: list[str] = []

    @classmethod
    def from_settings(cls, settings: Settings) -> FeatureCache | None:
        """Return the user's cache, None if the settings keep none or the user has no home folder."""
        folder = cache_folder()
        return cls(folder, settings.feature_cache_gb * 1e9) if folder and settings.feature_cache_gb else None

    def load(self, key: str) -> KeptFeatures | None:
        """Return what is kept under a key and mark it as used; None if there is nothing, or it is damaged."""
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
        """Keep features under a key, and remove those used longest ago if there are too many."""
        tensors = {"fixed": features.fixed.cpu().contiguous(), "moving": features.moving.cpu().contiguous()}
        if sum(tensor.nbytes for tensor in tensors.values()) > self._limit:
            self.messages.append(Note("The features were not kept for later runs: they exceed --feature-cache-gb."))
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
                    f"The features were not kept for later runs: {self._folder} cannot be written ({why}); set "
                    f"{CACHE_VARIABLE} to another folder."
                )
            )
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{_PREFIX}{key}.safetensors"

    def _make_room(self) -> None:
        """Remove abandoned unfinished files, and finished ones, the longest unused first, down to the limit.

        Only what was written here, by its name and kind.
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
            with contextlib.suppress(OSError):  # in use by another process, or gone already
                path.unlink()
            taken -= size


def _checksum(fixed: torch.Tensor, moving: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in (fixed, moving):
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
