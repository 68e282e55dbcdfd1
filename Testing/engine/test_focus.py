"""What the pictures of a run must show: the lesion, else the structures that drove; on differing, oblique grids."""

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import empty_grid, on_grid, points_of, rigid_transform, through, volume

from FoundationRegistrationLib import Settings
from FoundationRegistrationLib.pipeline.driving import Driving, StructurePair
from FoundationRegistrationLib.pipeline.focus import focus_of
from FoundationRegistrationLib.pipeline.given import GivenVolume

LARGE, SMALL = np.array([8.0, -6.0, 5.0]), np.array([-20.0, 10.0, -15.0])
GRIDS = {"fixed": empty_grid("oblique"), "moving": empty_grid("sagittal", (3, -2, 4))}


def balls(grid, places=((LARGE, 7.0), (SMALL, 4.0))):
    points = points_of(grid)
    inside = [np.linalg.norm(points - centre, axis=1) < radius for centre, radius in places]
    return on_grid(np.any(inside, axis=0).astype(np.uint8), grid)


def given(role, **lesion):
    images = {role: volume(GRIDS[role]), **{f"{role}_{name}": mask for name, mask in lesion.items()}}
    return GivenVolume.of(role, images, Settings(encoder="mind", device="cpu", working_spacing_mm=4.0))


def centre_of(labels, value=1):
    points = points_of(labels)
    return points[sitk.GetArrayViewFromImage(labels).reshape(-1) == value].mean(0)


def test_the_largest_lesion_of_the_fixed_volume_comes_first():
    sides = given("fixed", lesion=balls(GRIDS["fixed"])), given("moving", lesion=balls(GRIDS["moving"]))
    focus = focus_of(*sides, Driving(), rigid_transform())
    assert centre_of(focus) == pytest.approx(LARGE, abs=1.0)


def test_a_lesion_of_the_moving_volume_is_looked_for_where_it_was_registered_to():
    motion = rigid_transform()
    sides = given("fixed"), given("moving", lesion=balls(GRIDS["moving"]))
    focus = focus_of(*sides, Driving(), motion)
    assert focus.GetSize() == GRIDS["fixed"].GetSize()
    assert through(motion, centre_of(focus)[None])[0] == pytest.approx(LARGE, abs=1.0)


def test_without_a_lesion_the_structures_that_drove():
    masks = [[balls(grid, [place]) for place in ((LARGE, 7.0), (SMALL, 4.0))] for grid in GRIDS.values()]
    pairs = [StructurePair(f"ball {n}", fixed, moving) for n, (fixed, moving) in enumerate(zip(*masks, strict=True))]
    focus = focus_of(given("fixed"), given("moving"), Driving(pairs), rigid_transform())
    assert centre_of(focus, 1) == pytest.approx(LARGE, abs=1.0)
    assert centre_of(focus, 2) == pytest.approx(SMALL, abs=1.0)


def test_nothing_is_in_focus_where_nothing_is_given_or_the_lesion_lies_outside():
    assert focus_of(given("fixed"), given("moving"), Driving(), rigid_transform()) is None
    sides = given("fixed"), given("moving", lesion=balls(GRIDS["moving"]))
    assert focus_of(*sides, Driving(), sitk.TranslationTransform(3, (300.0, 0.0, 0.0))) is None
