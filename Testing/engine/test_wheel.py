"""The wheel, built and installed into a new environment that sees the libraries of this one, without a network."""

import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import FoundationRegistrationLib

ROOT = Path(__file__).parents[2]
PACKAGE = "FoundationRegistrationLib"
VERSION = FoundationRegistrationLib.__version__


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    finished = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what it is made of, so that nothing is left in the source tree."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", ".", *offline, "--wheel-dir", built, cwd=source)
    (found,) = built.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of a new environment with the wheel; other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(programs / "python", "-c", code, cwd=folder).strip())
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    offline = ("--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check")
    run(programs / "python", "-m", "pip", "install", *offline, wheel, cwd=folder)
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.name == f"foundationregistration-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {path.relative_to(ROOT).as_posix() for path in files}
    assert f"{PACKAGE}/py.typed" in names


def test_the_page_of_the_wheel_is_the_readme(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert (
        metadata.get_payload(decode=True).decode("utf-8").strip() == (ROOT / "README.md").read_text("utf-8").strip()
    )


def test_the_installed_package_is_the_one_of_the_wheel(installed):
    code = (
        f"import {PACKAGE} as library, importlib.metadata, pathlib;"
        "print(pathlib.Path(library.__file__).parent, library.__version__);"
        "print(importlib.metadata.version('FoundationRegistration'))"
    )
    folder, version, recorded = run(installed / "python", "-c", code, cwd=installed).split()
    assert Path(folder).is_relative_to(installed.parent)
    assert version == recorded == VERSION
    assert (Path(folder) / "py.typed").is_file()


def test_the_command_runs(installed, tmp_path):
    by_name, by_module = [installed / "foundation-registration"], [installed / "python", "-m", PACKAGE]
    for program in (by_name, by_module):
        assert re.search(rf"\b{re.escape(VERSION)}\b", run(*program, "--version", cwd=tmp_path))
    pair = [tmp_path / "pair" / f"{side}.nii.gz" for side in ("fixed", "moving")]
    run(*by_module, "phantom", "longitudinal", "--output", tmp_path / "pair", "--spacing-mm", "8", cwd=tmp_path)
    options = ("--encoder", "mind", "--working-spacing-mm", "8", "--iterations", "0", "--initialization", "none")
    run(*by_name, "register", *pair, "--output", tmp_path / "result", *options, "--progress", "none", cwd=tmp_path)
    assert (tmp_path / "result" / "overview.png").is_file()
