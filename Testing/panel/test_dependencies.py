"""What is missing is installed when a registration starts, once, after asking; what Slicer carries is never replaced.

pip runs for real, on wheels made here, and only says what it would do. The PyTorch extension, which only the
application has, is a fake of the same names and signatures.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import slicer.util
from driving import choose_pair, click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENOUGH_MS = 30_000


@pytest.fixture
def dependencies(module: Any) -> Any:
    from FoundationRegistrationBridge.process import dependencies

    return dependencies


@pytest.fixture
def packages(module: Any) -> Any:
    from FoundationRegistrationPanel.running import packages

    return packages


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from instead of the internet; it installs nothing."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "DRY_RUN": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        yield


def make_wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    place = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{place}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{place}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{place}/RECORD", "")


def pip(qtbot: Any, *requirements: str) -> Any:
    """Run pip to its end."""
    from FoundationRegistrationBridge.process.pip import PipProcess

    process = PipProcess([Requirement(text) for text in requirements])
    qtbot.waitUntil(lambda: not process.running(), timeout=ENOUGH_MS)
    return process


def write(folder: Path, *lines: str) -> Path:
    path = folder / "requirements.txt"
    path.write_text("\n".join(["# comment", "", *lines]) + "\n", encoding="utf-8")
    return path


def test_missing_and_outdated_are_found_without_importing_them(dependencies: Any, tmp_path: Path) -> None:
    lines = ("numpy>=1.0", "numpy>=999", "no-such-package>=1", 'none; python_version < "3"')
    wanted = dependencies.read_requirements(write(tmp_path, *lines))
    assert [str(item) for item in dependencies.missing(wanted)] == ["numpy>=999", "no-such-package>=1"]


def test_every_package_that_is_there_is_kept_but_those_wanted_newer(dependencies: Any) -> None:
    lines = list(dependencies.constraints([Requirement("no-such-package"), Requirement("idna>=999")]))
    kept = {line.partition("==")[0] for line in lines}
    there = {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    assert kept == there - {"idna"} and len(kept) == len(lines)
    assert f"numpy=={metadata.version('numpy')}" in lines


def test_pip_upgrades_nothing_that_is_there(wheels: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_UPGRADE", "1")
    monkeypatch.setenv("PIP_UPGRADE_STRATEGY", "eager")
    make_wheel(wheels, "idna", "999.0")
    make_wheel(wheels, "idna", metadata.version("idna"))
    make_wheel(wheels, "wanted", "1.0", "idna")
    process = pip(qtbot, "wanted>=1")
    assert any(line.startswith("Would install wanted-1.0") for line in process.log), process.log
    assert not any("idna-999" in line for line in process.log if line.startswith("Would install"))
    assert "Still missing after the installation: wanted" in process.failure()


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ("idna>=998", "needs another version of one that Slicer"),
        ("nowhere-to-be-found", "has no build for this system"),
    ],
)
def test_why_packages_cannot_be_installed(wheels: Path, qtbot: Any, needs: str, words: str) -> None:
    make_wheel(wheels, "idna", "999.0")
    make_wheel(wheels, "wanted", "1.0", needs)
    process = pip(qtbot, "wanted>=1")
    assert words in process.failure() and "press Register again" in process.failure()


def test_offline_is_said(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there any more
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "there is no connection to the package server" in pip(qtbot, "no-such-package").failure()


def test_a_full_disk_is_said(dependencies: Any) -> None:
    said = [
        "Collecting timm",
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    ]
    assert "the disk is full" in dependencies.why_pip_failed(said)


# ---- Register ----


@pytest.fixture
def lacking(module: Any, packages: Any, panel: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The panel with two volumes, where a package is missing; what it asks is answered by the list."""
    for asked in (module, packages):
        monkeypatch.setattr(asked, "read_requirements", lambda path: [Requirement("no-such-package")])
    answers = [True]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: answers[0])
    choose_pair(panel.ui, pair["fixed"], pair["moving"])
    return answers


@pytest.mark.usefixtures("silent_server")
def test_register_is_busy_while_packages_are_installed_and_a_second_click_cancels(
    packages: Any, panel: Any, lacking: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    install = packages.Fetching
    monkeypatch.setattr(packages, "Fetching", lambda *given: started.append(install(*given)) or started[-1])
    click(panel.ui.applyButton)
    assert panel.ui.applyButton.text == "Cancel" and panel.ui.progressBar.visible
    qtbot.waitUntil(lambda: "Installing packages, this takes minutes" in panel.ui.stepNote.text)
    click(panel.ui.applyButton)
    qtbot.waitUntil(lambda: panel.ui.applyButton.text == "Register", timeout=ENOUGH_MS)
    assert len(started) == 1 and not started[0].poll()


def test_declining_starts_nothing(panel: Any, lacking: list[bool]) -> None:
    lacking[0] = False
    click(panel.ui.applyButton)
    assert panel.ui.applyButton.text == "Register" and not panel.ui.progressBar.visible


def test_after_the_packages_the_registration_goes_on(
    module: Any, packages: Any, panel: Any, lacking: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is a fake here that has installed everything at once."""

    class Installed:
        log = ()

        def __init__(self, starts: Any, on_progress: Any, on_finished: Any) -> None:
            monkeypatch.setattr(packages, "read_requirements", lambda path: [])
            self.finish = on_finished

        def poll(self) -> bool:
            self.finish(None, False)
            return False

    monkeypatch.setattr(packages, "Fetching", Installed)
    registered = []
    monkeypatch.setattr(panel, "_startRegistration", lambda: registered.append(True))
    monkeypatch.setattr(module.facts, "missing_weights", lambda names, given: [])
    click(panel.ui.applyButton)
    qtbot.waitUntil(lambda: registered == [True])


class Extension:
    """The PyTorch extension: what its installation does is given."""

    def __init__(self, dependencies: Any, monkeypatch: pytest.MonkeyPatch, install: Any) -> None:
        self.asked: list[dict[str, Any]] = []

        def install_torch(_logic: Any, **arguments: Any) -> Any:
            self.asked.append(arguments)
            return install()

        fake = ModuleType("PyTorchUtils")
        fake.PyTorchUtilsLogic = type("PyTorchUtilsLogic", (), {"installTorch": install_torch})
        monkeypatch.setitem(sys.modules, "PyTorchUtils", fake)


def test_torch_comes_through_its_extension_alone(dependencies: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(dependencies.BridgeError, match="install the extension 'PyTorch'"):
        dependencies.install_torch()
    extension = Extension(dependencies, monkeypatch, lambda: None)
    with pytest.raises(dependencies.BridgeError, match=r"If you did not decline: .* GB are free"):
        dependencies.install_torch()
    assert extension.asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.5"}]


def failing(error: Exception) -> Any:
    def install() -> None:
        raise error

    return install


def test_why_torch_was_not_installed(dependencies: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Extension(dependencies, monkeypatch, failing(OSError(28, "No space left on device")))
    with pytest.raises(dependencies.BridgeError, match="the disk is full"):
        dependencies.install_torch()
    Extension(dependencies, monkeypatch, failing(subprocess.CalledProcessError(1, ["pip"])))
    with pytest.raises(dependencies.BridgeError, match="it needs the internet and 1 GB of disk space"):
        dependencies.install_torch()


@pytest.mark.parametrize(
    ("machine", "words"), [("x86_64", "Macs with Intel processors"), ("arm64", "than 11.7 may be")]
)
def test_what_a_mac_can_do_about_torch(
    dependencies: Any, monkeypatch: pytest.MonkeyPatch, machine: str, words: str
) -> None:
    monkeypatch.setattr(dependencies.sys, "platform", "darwin")
    monkeypatch.setattr(dependencies.platform, "mac_ver", lambda: ("11.7", ("", "", ""), machine))
    monkeypatch.setattr(dependencies.platform, "machine", lambda: machine)
    Extension(dependencies, monkeypatch, lambda: None)
    with pytest.raises(dependencies.BridgeError, match=words):
        dependencies.install_torch()


def test_register_is_busy_while_the_extension_installs_torch(
    packages: Any, dependencies: Any, panel: Any, lacking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extension handles events meanwhile, so that a person may click again."""
    seen = []

    def install() -> None:
        seen.append((panel.ui.applyButton.enabled, panel.ui.stepNote.text))
        panel.onApplyButton()

    monkeypatch.setattr(packages, "TORCH", Requirement("torch>=999"))
    extension = Extension(dependencies, monkeypatch, install)
    click(panel.ui.applyButton)
    assert seen == [(False, "Installing PyTorch, this takes minutes")] and len(extension.asked) == 1
    assert "PyTorch was not installed" in panel.ui.logText.plainText
    assert panel.ui.applyButton.text == "Register" and panel.ui.applyButton.enabled
    assert not panel.ui.progressBar.visible


def test_the_self_test_of_the_module_installs_nothing(module: Any, scene: Any, lacking: Any) -> None:
    import unittest

    result = unittest.TestResult()
    module.FoundationRegistrationTest("test_RegisterPhantom").run(result)
    assert [reason for _, reason in result.skipped] == ["Not installed: no-such-package"] and not result.errors
    module.FoundationRegistrationTest().runTest()
