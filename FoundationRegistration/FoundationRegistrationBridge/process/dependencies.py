"""The Python packages of the engine: what is missing, and how it is installed, on request and not before.

PyTorch is installed only by the PyTorch extension, which selects the build for the graphics card. The others are
installed by pip in a process of its own, which can be cancelled, under constraints that keep every package that is
there already as it is. The same on all versions of Slicer.
"""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ..errors import BridgeError

TORCH = Requirement("torch>=2.5")
_CONSOLE = "The Python console has the details; press Register to try again."
# What pip or Python say when an installation fails, and what to do; the first that fits.
_REASONS = (
    (r"no space left|not enough space|errno 28", "the disk is full; free some gigabytes"),
    (
        r"failed to establish a new connection|name resolution|getaddrinfo|network is unreachable|proxyerror|sslerror"
        r"|max retries exceeded|connection (?:refused|reset|timed out|broken)|read timed out",
        "there is no connection to the package server; connect to the internet, or set pip's proxy or index",
    ),
    (
        r"resolutionimpossible|conflicting dependencies|the user requested \(constraint\)",
        "a package needs another version of one that Slicer or an extension brought; use a newer version of Slicer, "
        "or remove the extension that brought it",
    ),
    (
        r"no matching distribution|could not find a version",
        "a package has no build for this system and Python; use a newer version of Slicer or of the system",
    ),
    (
        r"permission denied|errno 13|access is denied",
        "Slicer's folder cannot be written; install Slicer for yourself",
    ),
)


def read_requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file, one per line, ignoring empty lines and comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def missing(requirements: Sequence[Requirement]) -> list[Requirement]:
    """Return the requirements that are missing or too old, without importing them."""
    return [requirement for requirement in requirements if not _is_satisfied(requirement)]


def constraints(wanted: Sequence[Requirement]) -> Iterator[str]:
    """Yield a line for pip for each installed package, so that its version is kept; not for those wanted newer.

    Args:
        wanted: what will be installed.
    """
    free = {canonicalize_name(requirement.name) for requirement in wanted}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"] or "")
        try:
            version = Version(distribution.version)
        except (InvalidVersion, TypeError):  # damaged, and nothing that pip could keep
            continue
        if name and name not in free:
            free.add(name)  # a second one of the name is hidden by the first
            yield f"{name}=={version}"


def install_torch() -> None:
    """Let the PyTorch extension ask, and install PyTorch; returns when that is done.

    Raises:
        BridgeError: the extension is missing, the user declined, or it failed.
    """
    try:
        pytorch_utils = importlib.import_module("PyTorchUtils")
    except ImportError as error:
        msg = "PyTorch is needed: install the extension 'PyTorch' in the Extensions Manager and restart Slicer."
        raise BridgeError(msg) from error
    try:
        torch = pytorch_utils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=str(TORCH.specifier)
        )
    except (RuntimeError, ValueError, OSError, subprocess.CalledProcessError) as error:
        msg = f"PyTorch was not installed: {_why(str(error)) or _torch_needs()}. {_CONSOLE}"
        raise BridgeError(msg) from error
    if torch is None:
        msg = f"PyTorch was not installed. If you did not decline: {_torch_needs()}. {_CONSOLE}"
        raise BridgeError(msg)


def why_pip_failed(output: Sequence[str]) -> str:
    """Return why an installation failed and what to do, from the last lines of pip."""
    last = next((line for line in reversed(output) if line.strip()), "pip said nothing")
    reason = _why("\n".join(output)) or " ".join(last.split())
    return f"The Python packages were not installed: {reason}. Then press Register again."


def _why(said: str) -> str:
    return next((reason for pattern, reason in _REASONS if re.search(pattern, said, re.IGNORECASE)), "")


def _torch_needs() -> str:
    """Return what PyTorch needs, and whether this computer has it."""
    free = shutil.disk_usage(sys.prefix).free / 1e9
    needs = f"it needs the internet and 1 GB of disk space, 6 GB for NVIDIA graphics cards ({free:.0f} GB are free)"
    if sys.platform != "darwin":
        return needs
    release, machine = platform.mac_ver()[0], platform.machine()
    if machine != "arm64":
        return f"there is no PyTorch {TORCH.specifier} for Macs with Intel processors; use another computer"
    return f"{needs}; its newest builds need a newer macOS than {release} may be: update macOS, or Slicer"


def _is_satisfied(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = _installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
