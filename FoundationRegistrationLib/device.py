"""Which device runs the tensors, how much memory it has, how much was used."""

from __future__ import annotations

import sys

import psutil
import torch

from .errors import SettingsError


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


def describe_device(device: torch.device) -> str:
    """Return a name a person recognises, for the run record."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that is free on the device now, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


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
