"""Host memory that this process may use: the machine's, within the limits of its container and shell.

A Linux container (control group) or an address space limit ends a process that exceeds it without a message, and
neither shows in the free memory of the machine. Sources: the manual page proc(5) for /proc/self/cgroup, the kernel's
documents "Control Group v2" and "Memory Resource Controller" (version 1), getrlimit(2).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# The least that a registration needs beyond the loaded libraries: measured with volumes of a few megabytes.
_LEAST_BYTES = 0.5e9
# Requests at once what the other libraries and the smallest registration need besides PyTorch.
_TRIAL = "import mmap, torch; mmap.mmap(-1, 800_000_000)"
_ADDRESS_SPACE = "the address space limit (ulimit -v)"
# Error texts of libraries that run out of memory; oneDNN mentions primitives.
_SAYINGS = (
    "allocate memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",
    "failed to map segment",
    "not enough memory",
    "out of memory",
    "thread creation failed",
)
# Version 1 writes "no limit" as the largest number of pages; no machine has this much.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class MemoryLimit:
    """A memory limit of a container or shell, in bytes, how much of it is used, and what sets it."""

    allowed: int
    taken: int
    what: str


def memory_limits(cgroup_root: Path = CGROUP_ROOT, own_cgroups: Path = OWN_CGROUPS) -> list[MemoryLimit]:
    """Return the limits of this process, if any.

    Args:
        cgroup_root: mount point of the control groups.
        own_cgroups: file that lists the groups of this process.
    """
    return [*_cgroup_limits(cgroup_root, own_cgroups), *_process_limits()]


def available_memory_bytes(cgroup_root: Path = CGROUP_ROOT, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Return the host memory that this process may still use; arguments as in `memory_limits`."""
    import psutil

    left = [limit.allowed - limit.taken for limit in memory_limits(cgroup_root, own_cgroups)]
    return max(0, min([psutil.virtual_memory().available, *left]))


def total_memory_bytes(cgroup_root: Path = CGROUP_ROOT, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Return the total memory available to this process, used or not; arguments as in `memory_limits`."""
    import psutil

    return min([psutil.virtual_memory().total, *(limit.allowed for limit in memory_limits(cgroup_root, own_cgroups))])


def resident_bytes() -> int:
    """Return the current memory use of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def speaks_of_memory(error: BaseException) -> bool:
    """Return whether an error of any library says that the host or a device ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, (RuntimeError, OSError, ImportError)) and any(words in said for words in _SAYINGS)


def check_limits(needed_bytes: float = 0.0) -> None:
    """Refuse a registration that a container or shell would end without a message.

    Args:
        needed_bytes: additional memory it needs; at least that of the smallest registration.

    Raises:
        InputError: a limit leaves too little memory.
    """
    needed = max(_LEAST_BYTES, needed_bytes)
    for limit in memory_limits():
        left = max(0, limit.allowed - limit.taken)
        if needed > left:
            msg = (
                f"Not enough memory: about {needed / 1e9:.1f} GB more are needed, and {limit.what} of "
                f"{limit.allowed / 1e9:.1f} GB leaves {left / 1e9:.1f} GB; raise the limit, use a larger "
                "--working-spacing-mm or a smaller --memory-budget-gb, or crop the volumes."
            )
            raise InputError(msg)


def check_loading() -> None:
    """Refuse a run whose libraries do not load within the address space limit.

    Some of them end the process when they get no memory, so they are first loaded in another process together with
    the memory of the smallest registration; this takes time only if there is a limit.

    Raises:
        InputError: they do not load.
    """
    limit = next((limit for limit in _process_limits() if limit.what == _ADDRESS_SPACE), None)
    if limit is None or "torch" in sys.modules:
        return
    trial = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True, check=False)
    if trial.returncode < 0 or any(words in trial.stderr.lower() for words in _SAYINGS):
        allowed = f"{limit.what} of {limit.allowed / 1e9:.1f} GB"
        msg = f"Not enough memory: {allowed} is too small for the libraries; raise it."
        raise InputError(msg)


def _process_limits() -> Iterator[MemoryLimit]:
    """Yield the limits of the process itself (`ulimit -v`, `ulimit -d`), which only Linux enforces."""
    if sys.platform != "linux":
        return
    import resource

    import psutil

    taken = psutil.Process().memory_info()
    for kind, used, what in (
        (resource.RLIMIT_AS, taken.vms, _ADDRESS_SPACE),
        (resource.RLIMIT_DATA, taken.data, "the data segment limit (ulimit -d)"),
    ):
        allowed = resource.getrlimit(kind)[0]
        if allowed != resource.RLIM_INFINITY:
            yield MemoryLimit(allowed, used, what)


def _cgroup_limits(root: Path, own_cgroups: Path) -> Iterator[MemoryLimit]:
    """Yield the limits of this process's control groups and their parents."""
    lines: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        lines = own_cgroups.read_text(encoding="utf-8").splitlines()
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            for folder in (root, root / "unified"):  # version 2 alone, or beside version 1
                yield from _limits_along(folder, path, ("memory.max", "memory.high"), "memory.current", "{}_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes",)
            yield from _limits_along(root / "memory", path, names, "memory.usage_in_bytes", "total_{}_file")


def _limits_along(root: Path, path: str, limits: tuple[str, ...], usage: str, cache: str) -> Iterator[MemoryLimit]:
    """Yield the limits of a group and its parents, as far as they are mounted in this container."""
    parts = PurePosixPath(path).parts[1:]
    inner = PurePosixPath(*(() if ".." in parts else parts))
    for group in (inner, *inner.parents):
        folder = root / group
        taken = _number(folder / usage)
        if taken is None:
            continue
        for name in limits:
            allowed = _number(folder / name)
            if allowed is not None:
                # The kernel drops file pages, including those of libraries, before it ends a process.
                cached = sum(_entry(folder / "memory.stat", cache.format(use)) for use in ("inactive", "active"))
                yield MemoryLimit(allowed, max(0, taken - cached), "the container limit (control group)")


def _number(file: Path) -> int | None:
    """Return the number in a file, None if the file is missing or states no limit."""
    try:
        number = int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return number if number < _NO_LIMIT else None


def _entry(file: Path, name: str) -> int:
    """Return the number after a name in a file of name-value lines, 0 if there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
