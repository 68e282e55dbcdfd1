"""Which device runs the tensors, how much memory it has, how much was used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import torch

from ..errors import SettingsError
from .memory import available_memory_bytes, speaks_of_memory

# Major compute capability of the first CUDA devices that have units for bfloat16 (Ampere).
_FIRST_WITH_BFLOAT16 = 8


@dataclass
class Runtime:
    """What one run computes on: its device, and how much of that device's memory was used.

    Attributes:
        device: where tensors live, with its number where there can be several.
    """

    device: torch.device
    _peak: int = field(default=0, init=False)

    @classmethod
    def start(cls, name: str) -> Runtime:
        """Return the runtime for a setting; its peak of memory counts from now on.

        Raises:
            SettingsError: the named device is not available on this machine.
        """
        device = resolve_device(name)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        return cls(device)

    @property
    def messages(self) -> list[str]:
        """What the user should know of the device."""
        if self.device.type != "mps":
            return []
        return [
            "The device 'mps' was chosen, on which nobody has tried this yet; what it lacks is computed in "
            "another way or on the CPU. Check the result with care, or use --device cpu."
        ]

    def taken_by(self, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
        """Return the result of some work and the bytes that it took on a CUDA device beyond what was taken before."""
        before = torch.cuda.memory_allocated(self.device)
        # Torch has one count only; what it has counted so far is remembered.
        self._peak = max(self._peak, torch.cuda.max_memory_allocated(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)
        result = work()
        return result, max(1, torch.cuda.max_memory_allocated(self.device) - before)

    def peak_bytes(self) -> dict[str, int]:
        """Return the peak memory in bytes: of the process since it began, and of the device since the run did."""
        peak = peak_memory_bytes(self.device)
        return {**peak, "device": max(self._peak, peak["device"])} if "device" in peak else peak


def resolve_device(name: str) -> torch.device:
    """Return the torch device for a setting, with its number; `auto` takes cuda, then cpu.

    Macs compute on the CPU unless `mps` is asked for, as long as nobody has tried it there.

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
    """Return the device, or the CPU in place of one of Apple's, which has no float64 and no eigenvalues."""
    return torch.device("cpu") if device.type == "mps" else device


def describe_device(device: torch.device) -> str:
    """Return a name a person recognises, for the run record."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
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
