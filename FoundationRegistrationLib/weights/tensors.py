"""The tensors of a weight file, read without running code and refused if they are invalid."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from ..files.bounded import open_regular
from ..runtime.memory import available_memory_bytes, speaks_of_memory
from .inspection import what_unsafe
from .recognition import is_safetensors, what_else

if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)
# Keys under which training code stores the network; of teacher and student, the teacher is the result.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "ema", "network", "net", "backbone", "encoder")
# Nested containers; a dictionary may contain itself.
_DEEPEST = 8
_LONGEST_NAME = 300
# Larger values overflow in any network.
_LARGEST_VALUE = 1e10


def refuse_no_weight_file(path: Path) -> None:
    """Refuse a file that cannot be a weight file or does not fit into memory."""
    try:
        size, what = path.stat().st_size, what_else(path)
    except OSError as error:
        raise WeightsError(unreadable_message(path, error)) from error
    if what is not None:
        msg = f"The weight file '{path}' {what}; get the official file again."
        raise WeightsError(msg)
    if size > available_memory_bytes():
        raise WeightsError(too_large_message(path, size))


def unreadable_message(path: Path, error: OSError) -> str:
    """Return the error for an unreadable weight file."""
    return (
        f"The weight file '{path}' cannot be read ({error.strerror or error}); check that it exists and is readable."
    )


def too_large_message(path: Path, size: int) -> str:
    """Return the error for a weight file that does not fit into memory."""
    return (
        f"The weight file '{path}' needs {size / 1e9:.1f} GB of memory, but only "
        f"{available_memory_bytes() / 1e9:.1f} GB are free; free some memory, or choose a smaller encoder."
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of any format by name; all are plain, finite numbers."""
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
    with open_regular(path) as file:  # given a path, torch goes by the extension, not by the content
        return torch.load(file, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> str:
    """Why torch or safetensors failed to read a file, in one line with advice."""
    if speaks_of_memory(error):
        return f"There is not enough memory to read the weight file '{path}' (or it is damaged); free some memory."
    return (
        f"The weight file '{path}' is damaged, truncated or not a checkpoint of plain tensors; get the official file."
    )


def _named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, without their container and other training data."""
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
    """Refuse tensors other than plain numbers, and those that would expand in use."""
    import torch

    plain = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
    plain |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}
    for name, tensor in state.items():
        if len(name) > _LONGEST_NAME or not name.isprintable():
            msg = f"The weight file '{path}' has tensors without valid names; give the official file."
            raise WeightsError(msg)
        if tensor.dtype not in plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            msg = (
                f"The weight file '{path}' holds '{name}' as {tensor.dtype}, which no encoder has; give the official "
                "file."
            )
            raise WeightsError(msg)
    laid_out = sum(tensor.nbytes for tensor in state.values())
    if laid_out > available_memory_bytes():  # many views of the same numbers
        raise WeightsError(too_large_message(path, laid_out))


def _first_fault(state: Mapping[str, torch.Tensor]) -> str | None:
    """Name the first tensor with invalid values; None if there is none.

    Many tensors may be views of the same numbers: these are checked once.
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
            return f"'{name}' holds values that are not finite (NaN or infinite)"
    return None


def _is_sound(values: torch.Tensor) -> bool:
    low, high = (float(value) for value in values.aminmax())
    return low >= -_LARGEST_VALUE and high <= _LARGEST_VALUE  # NaN is neither
