"""The Python packages of the engine, requested when a registration starts and not before.

PyTorch is installed only by the PyTorch extension, which selects the build for the graphics card. Slicer's own
packages (numpy, SimpleITK, VTK) are never replaced.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType

import slicer
import slicer.util
from packaging.requirements import Requirement
from slicer.i18n import tr as _

from .errors import BridgeError

REQUESTER = "FoundationRegistration"
TORCH = Requirement("torch>=2.5")
_KEPT_AS_THEY_ARE = ("numpy", "scipy", "SimpleITK", "vtk", "torch", "torchvision")


def read_requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file, one per line, ignoring empty lines and comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def missing(requirements: list[Requirement]) -> list[Requirement]:
    """Return the requirements that are missing or too old, without importing them."""
    return [requirement for requirement in requirements if not _is_satisfied(requirement)]


def ensure_dependencies(requirements_file: Path) -> None:
    """Install missing packages after asking the user; return at once if there are none.

    Args:
        requirements_file: the module's `requirements.txt`.

    Raises:
        BridgeError: the user declined, the PyTorch extension is missing, or the installation failed.
    """
    if missing([TORCH]):
        _install_torch()
    absent = missing(read_requirements(requirements_file))
    if not absent:
        return
    with _slicer_packages_kept():
        _install(absent)
    still_absent = missing(absent)
    if still_absent:
        msg = f"Still missing after the installation: {_names(still_absent)}; see the Python console, then try again."
        raise BridgeError(msg)


def _install_torch() -> None:
    try:
        pytorch_utils = importlib.import_module("PyTorchUtils")
    except ImportError as error:
        msg = "PyTorch is needed: install the extension 'PyTorch' in the Extensions Manager and restart Slicer."
        raise BridgeError(msg) from error
    logic = pytorch_utils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=True, torchVersionRequirement=str(TORCH.specifier)) is None:
        msg = "PyTorch was not installed; press Register again to install it."
        raise BridgeError(msg)


def _install(requirements: list[Requirement]) -> None:
    texts = [str(requirement) for requirement in requirements]
    try:
        packaging = _slicer_packaging()
        if packaging is not None:
            packaging.pip_ensure(texts, requester=REQUESTER)
            return
        question = _("These Python packages are needed and will be installed:\n\n{names}\n\nInstall them now?")
        if not slicer.util.confirmOkCancelDisplay(question.format(names=_names(requirements))):
            msg = "The Python packages were not installed; press Register again to install them."
            raise BridgeError(msg)
        slicer.util.pip_install(texts)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        msg = f"The Python packages were not installed ({' '.join(str(error).split())}); press Register to try again."
        raise BridgeError(msg) from error


def _slicer_packaging() -> ModuleType | None:
    """Return `slicer.packaging`, available since Slicer 5.11, else None."""
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return None


@contextmanager
def _slicer_packages_kept() -> Iterator[None]:
    """Within the block, restrict pip to wheels, and to Slicer's versions of its own packages."""
    lines = [f"{name}=={version}\n" for name in _KEPT_AS_THEY_ARE if (version := _installed_version(name))]
    with tempfile.TemporaryDirectory(prefix="FoundationRegistration-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(lines), encoding="utf-8")
        wanted = {"PIP_CONSTRAINT": constraints.as_uri(), "PIP_ONLY_BINARY": ":all:"}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


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


def _names(requirements: list[Requirement]) -> str:
    return ", ".join(requirement.name for requirement in requirements)
