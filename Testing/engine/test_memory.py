"""Memory: the least of what the machine has, the container gives and the shell allows; beyond it a run is refused."""

import random
import subprocess
import sys

import psutil
import pytest
import SimpleITK as sitk
import torch
import volumes

from FoundationRegistrationLib.convex_adam import stages_of
from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.pipeline.deformation import working_grid
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import PreparedVolume
from FoundationRegistrationLib.runtime import memory
from FoundationRegistrationLib.runtime.device import is_out_of_memory
from FoundationRegistrationLib.runtime.memory import (
    MemoryLimit,
    available_memory_bytes,
    memory_limits,
    speaks_of_memory,
    total_memory_bytes,
)
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.grids import WorkingGrid

MB = 2**20
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
UNLIMITED_V1 = 9223372036854771712


def group(folder, allowed, taken, cached=0, names=V2, **more):
    """Write what the kernel shows of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{allowed}\n")
    (folder / names[1]).write_text(f"{taken}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\nother 7\n")
    for name, value in more.items():
        (folder / name.replace("_", ".")).write_text(f"{value}\n")


@pytest.fixture
def machine(tmp_path):
    """The figures for what a fake system says of the groups of this process."""

    def figures(own):
        (tmp_path / "own").write_text(own)
        given = {"cgroup_root": tmp_path / "cgroup", "own_cgroups": tmp_path / "own"}
        limits = [limit for limit in memory_limits(**given) if "container" in limit.what]
        return available_memory_bytes(**given), total_memory_bytes(**given), limits

    figures.root = tmp_path / "cgroup"
    return figures


def test_a_container_of_version_2_gives_what_it_has_left_and_files_it_can_drop(machine):
    group(machine.root, 1500 * MB, 600 * MB, 100 * MB)
    assert machine("0::/\n")[:2] == (1000 * MB, 1500 * MB)


def test_a_container_of_version_1_is_found_where_its_name_is_not_mounted(machine):
    group(machine.root / "memory", 1500 * MB, 600 * MB, 50 * MB, names=V1)
    own = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"
    assert machine(own)[:2] == (950 * MB, 1500 * MB)


def test_pages_of_files_in_use_are_dropped_before_a_process_is_ended(machine):
    group(machine.root, 1500 * MB, 900 * MB, 100 * MB)
    with (machine.root / "memory.stat").open("a") as file:
        file.write(f"active_file {300 * MB}\n")
    assert machine("0::/\n")[0] == 1000 * MB


def test_the_tightest_of_all_groups_around_counts(machine):
    group(machine.root / "a", 900 * MB, 800 * MB)
    group(machine.root / "a" / "b", 2000 * MB, 100 * MB)
    group(machine.root / "a" / "b" / "c", "max", 100 * MB)
    group(machine.root / "x", 1 * MB, 0)
    assert machine("0::/a/b/c\n")[:2] == (100 * MB, 900 * MB)
    group(machine.root / "a" / "b" / "c", "max", 100 * MB, memory_high=150 * MB)
    assert machine("0::/a/b/c\n")[:2] == (50 * MB, 150 * MB)


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::/\n", "0::/../../elsewhere\n", "3:memory:/\n", "0:\n\n::\n"])
def test_without_a_limit_the_machine_counts(machine, own):
    group(machine.root / "memory", UNLIMITED_V1, 600 * MB, names=V1)
    (machine.root / "memory.max").write_text("max\n")
    (machine.root / "memory.current").write_bytes(b"\xff")
    available, total, limits = machine(own)
    assert limits == []
    assert total == psutil.virtual_memory().total
    assert abs(available - psutil.virtual_memory().available) < 2000 * MB
    assert available_memory_bytes(machine.root / "none", machine.root / "none") > 0


@pytest.mark.parametrize("seed", range(30))
def test_any_hierarchy_gives_its_least(machine, seed):
    chance = random.Random(seed)
    names, root, number = (V2, machine.root, 0) if seed % 2 else (V1, machine.root / "memory", 4)
    expected, folder, path = [], root, ""
    for level in range(chance.randrange(1, 6)):
        if level:
            path += f"/{level}"
            folder = folder / str(level)
        allowed, taken = chance.randrange(1, 900) * MB, chance.randrange(900) * MB
        cached = chance.randrange(taken + MB)
        if chance.random() < 0.8:
            group(folder, allowed, taken, cached, names)
            expected.append(allowed - max(0, taken - cached))
        else:
            folder.mkdir(parents=True, exist_ok=True)
    available = machine(f"{number}:{'memory' if number else ''}:{path or '/'}\n")[0]
    if expected:
        assert available == max(0, min(expected))


@pytest.mark.parametrize(
    ("error", "of_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("No module named 'torch'"), False),
        (RuntimeError("The size of tensor a (2) must match the size of tensor b (3)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_libraries_say_about_memory_is_understood(error, of_memory):
    assert speaks_of_memory(error) == of_memory
    assert is_out_of_memory(error) == of_memory


# ---- a real limit ----

LIMITED = """
import resource, sys
import psutil
from FoundationRegistrationLib.cli.main import main
kind, megabytes = sys.argv[1], int(sys.argv[2])
if kind != "early":  # with the libraries loaded, so that what is left is the same on every machine
    from FoundationRegistrationLib.pipeline import registration
    from FoundationRegistrationLib.evaluation import report
    used = psutil.Process().memory_info()
    limit, taken = (resource.RLIMIT_AS, used.vms) if kind == "as" else (resource.RLIMIT_DATA, used.data)
else:
    limit, taken = resource.RLIMIT_AS, 0
resource.setrlimit(limit, (taken + megabytes * 2**20,) * 2)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    sitk.WriteImage(volumes.volume(volumes.empty_grid("oblique"), volumes.smooth_warp), str(folder / "fixed.nii.gz"))
    sitk.WriteImage(volumes.volume(volumes.empty_grid("RAS")), str(folder / "moving.nii.gz"))
    return folder


def run_within(pair, output, kind, megabytes, *options):
    command = ["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "--output", str(output)]
    command += ["--encoder", "mind", "--progress", "none", "--feature-cache-gb", "0", *options]
    program = [sys.executable, "-c", LIMITED, kind, str(megabytes), *command]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are enforced by Linux only")
@pytest.mark.parametrize(
    ("kind", "megabytes", "options"),
    [
        ("as", 50, ("--working-spacing-mm", "4")),
        ("as", 400, ("--working-spacing-mm", "4")),
        ("data", 400, ("--working-spacing-mm", "4")),
        *(("early", megabytes, ("--working-spacing-mm", "4")) for megabytes in (700, 1200, 2000)),
    ],
)
def test_too_tight_a_limit_ends_in_one_line_and_leaves_nothing(pair, tmp_path, kind, megabytes, options):
    run = run_within(pair, tmp_path / "result", kind, megabytes, *options)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("foundation-registration: Not enough memory")
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are enforced by Linux only")
def test_within_a_limit_the_grid_is_made_coarser_and_the_run_ends_well(pair, tmp_path):
    options = ("--working-spacing-mm", "0.5", "--iterations", "5", "--fluid-iterations", "2")
    run = run_within(pair, tmp_path / "result", "data", 1500, *options)
    assert run.returncode == 0, run.stderr
    assert "The working grid was made coarser" in run.stderr
    assert (tmp_path / "result" / "transform.h5").exists()


def test_dinov2_takes_the_input_that_the_container_allows():
    from FoundationRegistrationLib.encoders.dinov2 import _memory_bytes

    assert _memory_bytes(torch.device("cpu")) == total_memory_bytes()


# ---- what a run is expected to take ----


def chosen(monkeypatch, size, free_bytes, encoder="mind", limit=None):
    """The working grid of a volume (size voxels of 2 mm along each axis), and what is said, with 0.5 GB loaded."""
    image = sitk.Image(size, size, size, sitk.sitkFloat32)
    image.SetSpacing((2.0,) * 3)
    mask = sitk.Cast(image, sitk.sitkUInt8) + 1
    part = PreparedVolume(image, mask, "mr", mask)
    limits = [] if limit is None else [MemoryLimit(int(limit), 0, "the container limit (control group)")]
    monkeypatch.setattr(working_grid, "resident_bytes", lambda: int(0.5e9))
    monkeypatch.setattr(working_grid, "free_memory_bytes", lambda device: int(free_bytes))
    monkeypatch.setattr(memory, "memory_limits", lambda: limits)
    settings = Settings(encoder=encoder).suited_to(image.GetSpacing())
    given = (settings, [encoder_info(encoder)], stages_of(settings), torch.device("cpu"))
    return working_grid.choose_grid(part, part, sitk.TranslationTransform(3), *given)


def test_a_small_container_gets_a_grid_that_was_measured_to_fit(monkeypatch):
    """With volumes of 1.4 million voxels 4 mm took 0.5 GB more than was loaded, 2 mm 0.9 GB."""
    grid, messages = chosen(monkeypatch, 110, 0.7e9, limit=0.7e9)
    assert 2.0 < grid.spacing < 5.0
    assert "made coarser" in messages[0]
    finer, _ = chosen(monkeypatch, 110, 1.5e9)
    assert finer.spacing < grid.spacing
    network, _ = chosen(monkeypatch, 110, 0.7e9, "litemedsam")
    assert network.spacing >= grid.spacing


def test_a_large_volume_counts_as_well_as_its_grid(monkeypatch):
    """Eleven million voxels took 1.4 GB at the end of a run, whatever its grid."""
    with pytest.raises(InputError, match=r"Not enough memory.*leaves 1\.3 GB; .*crop the volumes\.$"):
        chosen(monkeypatch, 222, 1.3e9, limit=1.3e9)
    grid, _ = chosen(monkeypatch, 222, 2.4e9, limit=2.4e9)
    without_limit, _ = chosen(monkeypatch, 222, 1.3e9)  # no grid helps: none is made coarser for it
    assert without_limit.spacing <= grid.spacing * 2


def test_too_many_voxels_are_averaged_over_the_cells():
    few, many = (WorkingGrid((0.0, 0.0, 0.0), 1.0, (side, side, side)) for side in (360, 366))
    assert working_grid.intensity_spacing(few, Settings()) == 1
    assert working_grid.intensity_spacing(many, Settings(adam_grid_spacing=3)) == 3
