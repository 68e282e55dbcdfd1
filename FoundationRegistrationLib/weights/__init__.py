"""Weights of the encoders: which there are, where they lie, how they get there, and reading them without risk.

`catalogue.py` lists them, `store.py` finds them on the disk, `download.py` fetches them, `inspection.py` looks at a
file before `checkpoint.py` reads it, `recognition.py` names what a file or a checkpoint is. Importing this package
does not import torch.
"""

from __future__ import annotations

from .catalogue import WeightsEntry, catalogue, weights_entry
from .checkpoint import Checkpoint, load_exactly, packaged_file, read_checkpoint, read_state_dict, renaming
from .download import download
from .published import file_digest, verify
from .store import accept_license, download_folder, license_accepted, locate, remove

__all__ = [
    "Checkpoint",
    "WeightsEntry",
    "accept_license",
    "catalogue",
    "download",
    "download_folder",
    "file_digest",
    "license_accepted",
    "load_exactly",
    "locate",
    "packaged_file",
    "read_checkpoint",
    "read_state_dict",
    "remove",
    "renaming",
    "verify",
    "weights_entry",
]
