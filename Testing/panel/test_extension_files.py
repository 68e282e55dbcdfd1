"""The extension as Slicer builds and installs it: every file is listed, and what is installed works where it lies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "FoundationRegistration"
INSTALLED = Path("lib/Slicer/qt-scripted-modules")
SLICERS_OWN = {"torch", "torchvision", "numpy", "scipy", "simpleitk"}


def source_files() -> set[str]:
    """Every file that has to be installed, relative to the folder of the scripted modules."""
    found = set()
    for folder, base in ((MODULE, MODULE), (ROOT / "FoundationRegistrationLib", ROOT)):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.name != "CMakeLists.txt":
                found.add(path.relative_to(base).as_posix())
    return found


def run_cmake(*arguments: str) -> str:
    program = Path(sys.executable).parent / "cmake"
    command = [str(program) if program.exists() else shutil.which("cmake") or "cmake", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripted modules after configuring and installing against the stand-in for Slicer's CMake."""
    folder = tmp_path_factory.mktemp("extension")
    slicer_dir = ROOT / "Testing" / "stand_in" / "cmake"
    run_cmake(
        "-S", str(ROOT), "-B", str(folder / "build"), "-G", "Unix Makefiles", f"-DSlicer_DIR={slicer_dir}",
        "-DCMAKE_MAKE_PROGRAM=true", "-DCMAKE_C_COMPILER=true", "-DCMAKE_C_COMPILER_FORCED=1",
        "-DCMAKE_CXX_COMPILER=true", "-DCMAKE_CXX_COMPILER_FORCED=1",
        "-DBUILD_TESTING=ON", f"-DCMAKE_INSTALL_PREFIX={folder / 'installed'}",
    )  # fmt: skip
    run_cmake("--install", str(folder / "build"))
    return folder / "installed" / INSTALLED


def test_every_file_is_installed(installed: Path) -> None:
    there = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    missing = sorted(source_files() - there)
    assert not missing, (
        f"Add to CMakeLists.txt (the library's at the top, the others in FoundationRegistration): {missing}"
    )
    assert there == source_files()


def test_installed_module_finds_the_installed_library(installed: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from FoundationRegistrationBridge.library import library_folder; print(library_folder())"
    )
    command = [sys.executable, "-c", program, str(installed)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(finished.stdout.split("\n")[-2]) == installed.resolve()


def test_catalogue_entry_follows_slicers_schema() -> None:
    entry = json.loads((ROOT / "Resources/ExtensionsIndex/FoundationRegistration.json").read_text(encoding="utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert set(entry) <= {
        "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory",
        "dicom_support_rule", "enabled", "tier",
    }  # fmt: skip
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    homepage = re.search(r'EXTENSION_HOMEPAGE "([^"]+)"', cmake).group(1)
    assert entry["scm_url"] == f"{homepage}.git"
    assert f'EXTENSION_DEPENDS "{" ".join(entry["build_dependencies"])}"' in cmake


def test_addresses_of_pictures_are_literal_and_lead_to_files_that_are_here() -> None:
    """The check of Slicer's index reads them as text, without CMake's variables."""
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    begin = "https://raw.githubusercontent.com/FoundationRegistration/SlicerFoundationRegistration/main/"
    for name in ("ICONURL", "SCREENSHOTURLS"):
        for address in re.search(rf'set\(EXTENSION_{name} "([^"]+)"\)', cmake).group(1).split():
            assert address.startswith(begin), address
            assert (ROOT / address.removeprefix(begin)).is_file(), address


def test_requirements_of_the_panel_are_those_of_the_library() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        library = [Requirement(text) for text in tomllib.load(file)["project"]["dependencies"]]
    lines = (MODULE / "Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    panel = {str(Requirement(line)) for line in lines if not line.startswith("#")}
    assert panel == {str(item) for item in library if item.name.lower() not in SLICERS_OWN}


def test_extension_imports_nothing_of_the_tests() -> None:
    stand_in = {path.stem for path in (ROOT / "Testing/stand_in").glob("*.py")} - {"qt", "ctk"}
    pattern = re.compile(
        rf"^\s*(?:from|import)\s+({'|'.join([*stand_in, 'Testing', 'PySide6', 'stand_in'])})\b", re.M
    )
    for path in [*MODULE.rglob("*.py"), *(ROOT / "FoundationRegistrationLib").rglob("*.py")]:
        assert not pattern.search(path.read_text(encoding="utf-8")), path
