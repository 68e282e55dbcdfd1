"""What the jobs of a cohort ask a cluster for: what the largest pair is expected to take."""

import pytest
import SimpleITK as sitk
from volumes import anatomy, empty_grid, on_grid, points_of

from FoundationRegistrationLib.cli.cohort_needs import expected_needs
from FoundationRegistrationLib.cohort.figures import COLUMNS
from FoundationRegistrationLib.cohort.plan import plan_cohort
from FoundationRegistrationLib.cohort.table import read_table
from FoundationRegistrationLib.pipeline.estimate.history import PastRun, kind_of, remember
from FoundationRegistrationLib.settings import Settings

ROWS = "fixed,moving,name\nsmall.nrrd,small2.nrrd,small\nlarge.nrrd,large2.nrrd,large\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small and a large pair in a table."""
    folder = tmp_path_factory.mktemp("cohort")
    for name, extent in (("small", 74.0), ("large", 200.0)):
        grid = empty_grid("oblique", extent_mm=(extent, extent, extent))
        body = on_grid(anatomy(points_of(grid) * (74.0 / extent)), grid)
        for file in (f"{name}.nrrd", f"{name}2.nrrd"):
            sitk.WriteImage(body, str(folder / file))
    (folder / "cohort.csv").write_text(ROWS)
    return folder


@pytest.fixture
def pairs(folder, tmp_path, monkeypatch):
    """The pairs of the table, on a machine without earlier runs."""
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    return plan_cohort(read_table(folder / "cohort.csv", COLUMNS), {"encoder": "mind"}, {}).pairs


def test_jobs_ask_for_the_memory_of_the_largest_pair(pairs):
    small, large = pairs
    of_small, of_large, of_all = (expected_needs(some)["mem_mb"] for some in ([small], [large], pairs))
    # Each holds what this process takes already, which grows while libraries are loaded.
    assert of_all == pytest.approx(of_large, rel=0.02)
    assert of_large - of_small > 200


def test_the_time_is_asked_for_once_it_is_known_here(pairs):
    assert "minutes_per_pair" not in expected_needs(pairs)
    image = sitk.ReadImage(str(pairs[0].paths["fixed"]))
    kind = kind_of(Settings(encoder="mind").suited_to(image.GetSpacing(), image.GetSpacing()))
    remember(PastRun(kind, voxels=1000, fixed_voxels=1000, memory_bytes=1, steps={"encoding": 1.0}))
    assert expected_needs(pairs)["minutes_per_pair"] > expected_needs(pairs[:1])["minutes_per_pair"] >= 1


def test_a_damaged_pair_is_left_to_its_job(pairs):
    moving = pairs[1].paths["moving"]
    moving.write_bytes(moving.read_bytes()[:-1000])
    assert expected_needs(pairs) == {}
