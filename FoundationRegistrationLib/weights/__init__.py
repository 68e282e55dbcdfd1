"""Weights of the encoders: which there are, where they lie, how they get there, and reading them without risk.

`catalogue.py` lists them; `store.py` finds them on the disk; `download.py` fetches them, through `transport.py` for
each request, and `published.py` compares them with what their publishers say. `checkpoint.py` reads them through
`tensors.py`, after `inspection.py` has looked at the file; `recognition.py` names what a file or a checkpoint is.
Importing this package imports neither torch nor requests.

Connections, certificates, proxies and redirects are left to `requests`, locks to `filelock`.
Neither `pooch` nor `huggingface_hub` could keep what a download promises here: pooch deletes what has come when a
transfer breaks; `huggingface_hub` joins parts without asking whether they are of the same file; both follow redirects
to any address, unpack what a server compresses, and set no bound to the size or to a server that is slow.
"""

from __future__ import annotations

from .catalogue import WeightsEntry, catalogue, weights_entry
from .checkpoint import Checkpoint, load_exactly, packaged_file, read_checkpoint, read_state_dict, renaming, verify
from .download import download
from .published import file_digest
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
