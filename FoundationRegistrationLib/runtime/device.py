"""The compute device of a run, its memory and its peak memory use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import torch

from ..errors import SettingsError
from .memory import available_memory_bytes, speaks_of_memory

# Major compute capability of the first CUDA devices with bfloat16 units (Ampere).
_FIRST_WITH_BFLOAT16 = 8


@dataclass
class Runtime:
    """The device of a run and its memory use.

    Attributes:
        device: torch device, with its index if there can be several.
    """

    device: torch.device
    _peak: int = field(default=0, init=False)

    @classmethod
    def start(cls, name: str) -> Runtime:
        """Return the runtime for a setting; its peak memory counts from now on.

        Raises:
            SettingsError: the named device is not available on this machine.
        """
        device = resolve_device(name)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        return cls(device)

    @property
    def messages(self) -> list[str]:
        """Warnings about the device."""
        if self.device.type != "mps":
            return []
        return [
            "The device 'mps' is untested; operators that it lacks are computed in another way or on the CPU. Check "
            "the result with care, or use --device cpu."
        ]

    def taken_by(self, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
        """Return the result of some work and its additional peak memory on a CUDA device, in bytes."""
        before = torch.cuda.memory_allocated(self.device)
        # Torch has a single peak counter; its value so far is saved.
        self._peak = max(self._peak, torch.cuda.max_memory_allocated(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)
        result = work()
        return result, max(1, torch.cuda.max_memory_allocated(self.device) - before)

    def peak_bytes(self) -> dict[str, int]:
        """Return the peak memory in bytes, of the process since its start and of the device since that of the run."""
        peak = peak_memory_bytes(self.device)
        return {**peak, "device": max(self._peak, peak["device"])} if "device" in peak else peak


def resolve_device(name: str) -> torch.device:
    """Return the torch device for a setting, with its index; `auto` uses cuda if available, else cpu.

    Macs use the CPU unless `mps` is requested, since it is untested.

    Raises:
        SettingsError: the named device is not available on this machine.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = [*(f"cuda:{index}" for index in range(count)), "cpu"]
    if torch.backends.mps.is_available():
        usable.append("mps")
    if name == "auto":
        name = usable[0]
    if name == "cuda" and count:
        name = f"cuda:{torch.cuda.current_device()}"
    if name not in usable:
        msg = f"Device '{name}' is not available here; use --device auto or one of: {', '.join(usable)}."
        raise SettingsError(msg)
    return torch.device(name)


def device_with_doubles(device: torch.device) -> torch.device:
    """Return the device, or the CPU in place of MPS, which has neither float64 nor eigenvalues."""
    return torch.device("cpu") if device.type == "mps" else device


def describe_device(device: torch.device) -> str:
    """Return a readable name for the run record."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def free_memory_bytes(device: torch.device) -> int:
    """Return the free memory of the device that this process may use, in bytes."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return available_memory_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device or the host ran out of memory.

    CUDA has its own error class; MPS and the CPU allocators of Linux and Windows raise a plain RuntimeError.
    """
    return isinstance(error, torch.cuda.OutOfMemoryError) or speaks_of_memory(error)


def release_memory(device: torch.device) -> None:
    """Return memory that torch caches to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def fast_half_precision(device: torch.device) -> torch.dtype | None:
    """Return the half precision that is faster than float32 on the device, None if there is none.

    On CPUs without bfloat16 units (AMX or AVX512-BF16), bfloat16 is slower than float32.
    """
    if device.type == "cuda":
        return (
            torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= _FIRST_WITH_BFLOAT16 else torch.float16
        )
    if device.type == "mps":
        return torch.float16
    # Newer versions of torch report this; for others float32 is the safe choice.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return torch.bfloat16 if any(probe is not None and probe() for probe in probes) else None


def peak_memory_bytes(device: torch.device) -> dict[str, int]:
    """Return the peak memory of this process in bytes, host and device separately."""
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
