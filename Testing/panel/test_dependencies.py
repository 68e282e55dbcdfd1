"""What is missing is asked for when a registration starts; what Slicer carries is never replaced.

Installing for real cannot be tested here: `pip` is replaced by a recorder, and `slicer.packaging` and the PyTorch
extension, which only the application has, by fakes of the same names and signatures.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
import slicer.util


class Pip:
    """Records what would be installed, and under which constraints."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.constraints = ""
        self.only_binary = ""

    def install(self, requirements: list[str], **_: Any) -> None:
        self.installed += requirements
        path = url2pathname(urlparse(os.environ["PIP_CONSTRAINT"]).path)
        self.constraints = Path(path).read_text(encoding="utf-8")
        self.only_binary = os.environ["PIP_ONLY_BINARY"]


@pytest.fixture
def dependencies(module: Any) -> Any:
    from FoundationRegistrationBridge import dependencies

    return dependencies


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    recorder = Pip()
    monkeypatch.setattr(slicer.util, "pip_install", recorder.install)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    return recorder


def write(folder: Path, *lines: str) -> Path:
    path = folder / "requirements.txt"
    path.write_text("\n".join(["# comment", "", *lines]) + "\n", encoding="utf-8")
    return path


def test_nothing_is_asked_where_nothing_is_missing(dependencies: Any, pip: Pip, tmp_path: Path) -> None:
    dependencies.ensure_dependencies(write(tmp_path, "numpy>=1.0", 'no-such-package; python_version < "3"'))
    assert pip.installed == []


def test_missing_and_outdated_are_found_without_importing_them(dependencies: Any, tmp_path: Path) -> None:
    wanted = dependencies.read_requirements(write(tmp_path, "numpy>=1.0", "numpy>=999", "no-such-package>=1"))
    assert [str(item) for item in dependencies.missing(wanted)] == ["numpy>=999", "no-such-package>=1"]


def test_slicers_own_packages_are_kept(dependencies: Any, pip: Pip, tmp_path: Path) -> None:
    before = dict(os.environ)
    with pytest.raises(dependencies.BridgeError, match="Still missing after the installation: no-such-package"):
        dependencies.ensure_dependencies(write(tmp_path, "no-such-package>=1"))
    assert pip.installed == ["no-such-package>=1"] and pip.only_binary == ":all:"
    for name in ("numpy", "SimpleITK", "torch"):
        assert f"{name}=={metadata.version(name)}\n" in pip.constraints
    assert dict(os.environ) == before


def test_slicer_packaging_is_used_where_it_exists(
    dependencies: Any, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaging = ModuleType("slicer.packaging")
    packaging.pip_ensure = lambda requirements, requester=None: pip.install([requester, *requirements])
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    with pytest.raises(dependencies.BridgeError, match="Still missing"):
        dependencies.ensure_dependencies(write(tmp_path, "no-such-package"))
    assert pip.installed == ["FoundationRegistration", "no-such-package"]


def test_declining_ends_in_words(
    dependencies: Any, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: False)
    with pytest.raises(dependencies.BridgeError, match="press Register again"):
        dependencies.ensure_dependencies(write(tmp_path, "no-such-package"))
    assert pip.installed == []


def test_torch_comes_through_its_extension_alone(
    dependencies: Any, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "TORCH", dependencies.Requirement("torch>=999"))
    with pytest.raises(dependencies.BridgeError, match="install the extension 'PyTorch'"):
        dependencies.ensure_dependencies(write(tmp_path))

    asked: list[dict[str, Any]] = []

    class PyTorchUtilsLogic:
        def installTorch(self, **arguments: Any) -> None:
            asked.append(arguments)

    extension = ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    with pytest.raises(dependencies.BridgeError, match="PyTorch was not installed"):
        dependencies.ensure_dependencies(write(tmp_path))
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=999"}] and pip.installed == []
