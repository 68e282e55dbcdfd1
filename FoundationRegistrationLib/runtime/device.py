"""Which device runs the tensors, how much memory it has, how much was used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import torch

from ..errors import SettingsError
from .memory import available_memory_bytes, speaks_of_memory

# Major compute capability of the first CUDA devices that have units for bfloat16 (Ampere).
_FIRST_WITH_BFLOAT16 = 8


def resolve_device(name: str) -> torch.device:
    """Return the torch device for a setting; `auto` takes cuda, then mps, then cpu.

    Raises:
        SettingsError: the named device is not available on this machine.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, usable in available.items() if usable)
    if not available.get(name, False):
        usable = ", ".join(kind for kind, is_usable in available.items() if is_usable)
        msg = f"Device '{name}' is not available here; use --device auto or one of: {usable}."
        raise SettingsError(msg)
    return torch.device(name)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Let torch compute as it does when nothing was set, and leave what the caller set as it was.

    Callers may be in the middle of an inference or a training of their own: without gradients, in mixed precision,
    with another default type or device. The default type is one for the whole process.
    """
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(mode=False))
        settings.enter_context(torch.enable_grad())
        settings.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            settings.enter_context(torch.autocast("cuda", enabled=False))
        settings.enter_context(torch.device("cpu"))
        settings.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        yield


def describe_device(device: torch.device) -> str:
    """Return a name a person recognises, for the run record."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that is free on the device now and that this process may take, in bytes."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return available_memory_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device or the host ran out of memory.

    CUDA has a class of its own for it; MPS and the CPU allocators of Linux and Windows raise a plain RuntimeError.
    """
    return isinstance(error, torch.cuda.OutOfMemoryError) or speaks_of_memory(error)


def release_memory(device: torch.device) -> None:
    """Give memory that torch keeps for reuse back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def fast_half_precision(device: torch.device) -> torch.dtype | None:
    """Return the half precision that the device computes faster than float32, None where there is none.

    A CPU needs units for bfloat16 (AMX or AVX512-BF16); without them bfloat16 is slower than float32.
    """
    if device.type == "cuda":
        return (
            torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= _FIRST_WITH_BFLOAT16 else torch.float16
        )
    if device.type == "mps":
        return torch.float16
    # Newer versions of torch tell; without their word float32 is the safe choice.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return torch.bfloat16 if any(probe is not None and probe() for probe in probes) else None


def peak_memory_bytes(device: torch.device) -> dict[str, int]:
    """Return the peak memory of this process since it began, in bytes, host and device apart."""
    peak = {"host": _peak_resident_bytes()}
    if device.type == "cuda":
        peak["device"] = int(torch.cuda.max_memory_allocated(device))
    return peak


def _peak_resident_bytes() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
