"""Weights of the encoders: catalogue, location, download and safe reading.

`catalogue.py` lists them; `store.py` finds them on disk; `download.py` fetches them, with `transport.py` for each
request, and `published.py` compares them with the published checksums. `checkpoint.py` reads them with `tensors.py`,
after `inspection.py` has checked the file; `recognition.py` identifies files and checkpoints. Importing this package
imports neither torch nor requests.

`requests` handles connections, certificates, proxies and redirects, and `filelock` locks. Neither `pooch` nor
`huggingface_hub` meets the guarantees of the downloads here: pooch deletes partial files when a transfer breaks;
`huggingface_hub` joins parts without checking that they are of the same file; both follow redirects to any address,
decompress responses, and limit neither the size nor slow servers.
"""

from __future__ import annotations

from .catalogue import WeightsEntry, catalogue, weights_entry
from .checkpoint import Checkpoint, load_exactly, packaged_file, read_checkpoint, read_state_dict, renaming, verify
from .download import download
from .published import file_digest
from .store import accept_license, download_folder, license_accepted, locate, missing_weights, remove

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
    "missing_weights",
    "packaged_file",
    "read_checkpoint",
    "read_state_dict",
    "remove",
    "renaming",
    "verify",
    "weights_entry",
]
