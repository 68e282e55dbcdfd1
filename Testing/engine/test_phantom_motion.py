"""The motion of the patient phantoms: exact both ways, and no tissue changes its volume."""

import dataclasses

import numpy as np
import pytest

from FoundationRegistrationLib.phantom.case import TASKS
from FoundationRegistrationLib.phantom.cohort import Ranks, draw_ranks
from FoundationRegistrationLib.phantom.incompressible import Chain, Rigid, Shear, Squeeze, Twist
from FoundationRegistrationLib.phantom.motion import rotation
from FoundationRegistrationLib.phantom.patient_anatomy import PatientAnatomy
from FoundationRegistrationLib.phantom.patient_motion import draw_patient_motion

SEEDS = range(200, 206)
AXES = (np.arange(-220.0, 221.0, 20.0), np.arange(-150.0, 171.0, 16.0), np.arange(-140.0, 141.0, 20.0))
EVERYWHERE = np.stack(np.meshgrid(*AXES, indexing="ij"), axis=-1).reshape(-1, 3)
LINKS = {
    "rigid": Rigid(rotation(np.array([0.2, -0.1, 0.3])), np.array([5.0, 0.0, -9.0]), np.array([30.0, -8.0, 12.0])),
    "shear": Shear(1, lambda x, z: 12.0 * np.sin(0.03 * x) * np.cos(0.05 * z)),
    "twist": Twist(0, np.array([60.0, -40.0, 5.0]), 0.9, 55.0, 70.0),
    "twist along all of an axis": Twist(2, np.array([0.0, 90.0, 0.0]), 0.15, np.inf, 260.0),
    "compression": Squeeze(1, 2, 0.0, -1.0, (0.6, 0.8), (-35.0, 35.0), 4.0),
    "stretch": Squeeze(1, 0, 0.0, -1.0, (1.5, 1.2), (-35.0, 35.0), 4.0),
    "compression of the left only": Squeeze(0, 2, 80.0, 1.0, (0.7, 1.0), (-45.0, 0.0), 0.0),
}


def log_jacobian(function, points, step=1e-3):
    columns = [(function(points + step * e) - function(points - step * e)) / (2.0 * step) for e in np.eye(3)]
    return np.log(np.linalg.det(np.stack(columns, axis=-1)))


def ranks(seed, **changed) -> Ranks:
    return dataclasses.replace(draw_ranks(seed, 0), **changed)


def motion(seed, *, supine, **changed):
    return draw_patient_motion(np.random.default_rng(seed), ranks(seed, **changed), supine=supine)


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_each_link_moves_points_back_exactly_and_keeps_volume(link):
    moved = link.forward(EVERYWHERE)
    assert np.abs(moved - EVERYWHERE).max() > 5.0
    np.testing.assert_allclose(link.inverse(moved), EVERYWHERE, atol=1e-9)
    np.testing.assert_allclose(link.forward(link.inverse(EVERYWHERE)), EVERYWHERE, atol=1e-9)
    np.testing.assert_allclose(log_jacobian(link.forward, EVERYWHERE), 0.0, atol=1e-6)


def test_a_chain_goes_through_its_links_in_order():
    chain = Chain((LINKS["compression"], LINKS["rigid"]))
    expected = LINKS["rigid"].forward(LINKS["compression"].forward(EVERYWHERE))
    np.testing.assert_array_equal(chain.forward(EVERYWHERE), expected)


def test_a_squeeze_presses_in_front_of_its_plane_and_leaves_the_rest():
    squeeze = LINKS["compression"]
    ahead, behind = np.array([[90.0, -80.0, 0.0]]), np.array([[90.0, 90.0, 0.0]])
    assert -68.0 < squeeze.forward(ahead)[0, 1] < -60.0
    np.testing.assert_allclose(squeeze.forward(behind), behind, atol=0.1)


@pytest.mark.parametrize("supine", [False, True])
def test_displacement_and_inverse_are_exact(supine):
    for seed in SEEDS:
        there = motion(seed, supine=supine)
        np.testing.assert_allclose(there.inverse(there(EVERYWHERE)), EVERYWHERE, atol=1e-6)
        np.testing.assert_allclose(there(there.inverse(EVERYWHERE)), EVERYWHERE, atol=1e-6)
        reference = there.fixed.inverse(EVERYWHERE)
        np.testing.assert_allclose(there.fixed_from_reference(reference), EVERYWHERE, atol=1e-6)
        np.testing.assert_allclose(there(EVERYWHERE), there.moving.forward(reference), atol=1e-9)


@pytest.mark.parametrize("supine", [False, True])
def test_no_tissue_changes_its_volume_and_nothing_folds(supine):
    """Far below what is asked of gland, lesion and muscle (median 0.03, nowhere above 0.1), and so for fat."""
    for seed in SEEDS:
        for hardness in (0.0, 1.0):
            found = log_jacobian(motion(seed, supine=supine, hardness=hardness), EVERYWHERE)
            assert np.abs(found).max() < 1e-4  # a determinant below 0 has no logarithm: NaN would fail here


@pytest.mark.parametrize("task", ["lesion", "pet-ct-to-mri"])
def test_a_lesion_keeps_its_volume(task):
    """Counted on a fine grid in both spaces, without using that the map's determinant is 1."""
    rng = np.random.default_rng([201, TASKS.index(task)])
    anatomy = PatientAnatomy(rng, ranks(201))
    visit = anatomy.draw_visit(rng, 0.5, lesion=True, treated=False)
    there = motion(201, supine=task == "pet-ct-to-mri", hardness=0.7)
    centre, radius = anatomy.glands[anatomy.lesion_side].lesion
    volumes = []
    for chain in (there.fixed, there.moving):
        middle = chain.forward(centre[None])[0]
        ticks = np.arange(-3.0 * radius, 3.0 * radius, 0.7)
        grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3) + middle
        near = chain.inverse(grid)
        near = near[np.linalg.norm(near - centre, axis=1) < 1.6 * radius]
        volumes.append(np.count_nonzero(anatomy.at(near, visit).distance["lesion"] < 0.0) * 0.7**3)
    assert volumes[0] > 500.0
    assert volumes[1] == pytest.approx(volumes[0], rel=0.03)


def test_nipples_move_against_the_chest_as_another_coil_moves_them():
    nipples = np.array([[75.0, -70.0, 0.0], [-75.0, -70.0, 0.0]])
    chest = np.array([[75.0, 8.0, 0.0], [-75.0, 8.0, 0.0]])
    moved = []
    for seed in range(200, 230):
        there = motion(seed, supine=False)
        moved.extend(np.linalg.norm((there(nipples) - nipples) - (there(chest) - chest), axis=1))
    assert 15.0 < np.median(moved) < 40.0


def test_visits_start_up_to_60_mm_apart_and_turned():
    middle = np.array([[0.0, 20.0, 0.0]])
    apart, turned = [], []
    for seed in range(200, 240):
        table = motion(seed, supine=False).moving.links[-1]
        apart.append(np.linalg.norm(table.forward(middle) - middle))
        turned.append(np.degrees(np.arccos(np.clip(0.5 * (np.trace(table.rotation) - 1.0), -1.0, 1.0))))
    assert 40.0 < max(apart) < 65.0
    assert 15.0 < np.mean(apart) < 35.0
    assert np.std(apart) > 10.0
    assert 2.0 < np.median(turned) < 15.0
    assert max(turned) < 30.0


def test_ten_seeds_in_a_row_cover_the_range_of_every_rank():
    found = np.array([dataclasses.astuple(draw_ranks(seed, 2)) for seed in range(200, 210)])
    np.testing.assert_array_equal(np.sort(np.floor(10.0 * found), axis=0), np.tile(np.arange(10.0)[:, None], 7))
    assert not np.array_equal(found[:, 0], [draw_ranks(seed, 1).hardness for seed in range(200, 210)])
