"""Refinement by composed small steps: it aligns fine structure of any contrast, keeps volumes and never folds."""

import pytest
import torch
from fields import CPU, QUIET, random_smooth
from stages import run, stage

from FoundationRegistrationLib.convex_adam.crop import Crop
from FoundationRegistrationLib.convex_adam.fluid_refinement import FluidRefinement
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.stages import Found, Volumes
from FoundationRegistrationLib.convex_adam.unfolding import folded_nodes
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.features import pool
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import identity_positions, upsample, warp

SHAPE = (36, 48, 40)


def tissue(seed, shape=SHAPE):
    """(z, y, x) in 0..1 with structures of about two voxels."""
    return torch.sigmoid(2.0 * random_smooth(seed, shape, 1.2)[0])


def displaced_by(truth):
    """A fixed and a moving volume, with a displacement in voxels."""
    moving = tissue(1, truth.shape[1:])
    return warp(moving[None], truth)[0], moving


@pytest.fixture(scope="module")
def truth():
    """(3, z, y, x) in voxels, 1.2 on average."""
    return 0.75 * random_smooth(7, SHAPE, 7.0, channels=3)


@pytest.fixture(scope="module")
def pair(truth):
    return displaced_by(truth)


def on_cells(field, per_cell=2):
    return pool(field, per_cell) / per_cell


def refined(pair, start, per_cell=2, weights=(None, None), progress=QUIET, crop=None, **parameters):
    progress.start("test")
    return FluidRefinement(**parameters).refined(pair, start, per_cell, weights, progress, crop)


def voxels_apart(found, truth, per_cell=2):
    """Mean distance inside, in voxels."""
    inner = (slice(None), *(slice(3, -3),) * 3)
    return float(per_cell * (found - on_cells(truth, per_cell))[inner].norm(dim=0).mean())


@pytest.mark.parametrize("per_cell", [1, 2, 3])
def test_it_brings_the_last_voxel_whatever_the_cells(pair, truth, per_cell):
    start = 0.6 * on_cells(truth, per_cell)
    found = refined(pair, start, per_cell)
    assert found.shape == start.shape
    assert voxels_apart(found, truth, per_cell) < 0.3 * voxels_apart(start, truth, per_cell)


def test_only_the_box_around_the_fixed_weight_is_refined_and_the_moving_volume_is_seen_beyond_it():
    """The tissue in it comes from seven voxels outside."""
    shape, shift = (60, 72, 64), torch.tensor([7.0, 0.0, -6.0])[:, None, None, None]
    smooth = 0.75 * random_smooth(3, shape, 7.0, channels=3)
    pair = displaced_by(shift + smooth)
    start, wanted = on_cells(shift + 0.6 * smooth), on_cells(shift + smooth)
    weight = torch.zeros(start.shape[1:])
    weight[5:19, 7:24, 9:25] = 1.0
    weights, crop = (weight, torch.ones_like(weight)), Crop.around(weight, tuple(weight.shape))
    assert (crop.low, crop.high) == ((1, 3, 5), (23, 28, 29))

    def apart(one, other):
        return float((one - other)[:, 5:19, 7:24, 9:25].norm(dim=0).mean())

    found, whole = refined(pair, start, weights=weights, crop=crop), refined(pair, start, weights=weights)
    assert apart(found, wanted) < 0.3 * apart(start, wanted)
    assert apart(found, whole) < 0.1 * apart(start, wanted)
    assert not folded_nodes(found).any()


def test_what_did_not_move_drifts_no_more_in_a_box():
    """Noise and uptake pretend motion, which the still air around the body holds down, at the coarse levels too."""
    shape = (68, 72, 66)
    body = (
        (identity_positions(shape, CPU) - torch.tensor([32.0, 35.0, 37.0])[:, None, None, None]) / 20.0
    ).square().sum(0) < 1.0
    anatomy = (0.3 + 0.3 * random_smooth(5, shape, 5.0)[0].sigmoid()) * body
    uptake = 1.0 + 0.3 * random_smooth(7, shape, 12.0)[0]
    noise = [0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    pair, still = (anatomy + noise[0], anatomy * uptake + noise[1]), torch.zeros(3, *shape)
    weights = body.float(), body.float()
    drifts = [
        refined(pair, still, 1, weights, crop=crop)[:, body].norm(dim=0).mean()
        for crop in (Crop.around(weights[0], shape), None)
    ]
    assert drifts[0] < 1.1 * drifts[1]


def test_without_weight_anywhere_the_whole_grid_is_refined():
    shape = (4, 5, 6)
    assert Crop.around(None, shape) == Crop.around(torch.zeros(shape), shape) == Crop((0, 0, 0), shape, shape)


@pytest.mark.parametrize(
    "seen",
    [
        lambda fixed: 0.2 + 0.5 * fixed,
        lambda fixed: fixed * torch.linspace(0.5, 1.0, SHAPE[2]),
        lambda fixed: 1.0 - fixed,
        lambda fixed: 1.0 - 0.5 * fixed.square(),
    ],
    ids=["brightness and contrast", "shading", "inverted", "another curve of intensities"],
)
def test_contrast_does_not_matter(pair, truth, seen):
    fixed, moving = pair
    start = 0.6 * on_cells(truth)
    assert voxels_apart(refined((seen(fixed), moving), start), truth) < 0.3 * voxels_apart(start, truth)


def test_coarse_levels_lead_unless_features_say_that_they_misled():
    """A motion so large that the finest level alone stops on the way."""
    truth = 2.0 * random_smooth(9, (36, 48, 40), 9.0, channels=3)
    fixed, moving = displaced_by(truth)
    still = torch.zeros_like(on_cells(truth))
    QUIET.start("test")

    def kept(disagreement):
        return FluidRefinement().refined((fixed, moving), still, 2, (None, None), QUIET, disagreement=disagreement)

    further, nearer = kept(lambda found: 1.0), kept(lambda found: 1.0 + float(found.norm()))
    assert voxels_apart(further, truth) < voxels_apart(nearer, truth)
    volumes = Volumes(
        features=((pool(fixed[None], 2), pool(moving[None], 2)),),
        voxel_mm=1.0,
        spacing=2,
        intensities=(fixed, moving),
    )
    assert torch.equal(FluidRefinement().run(volumes, Found.nothing(volumes), QUIET).displacement, further)


def test_large_motion_is_followed_without_folds():
    truth = 2.0 * random_smooth(9, (24, 32, 28), 9.0, channels=3)
    start = torch.zeros_like(on_cells(truth))
    found = refined(displaced_by(truth), start, iterations=200)
    assert not folded_nodes(found).any()
    assert voxels_apart(start, truth) > 4.0
    assert voxels_apart(found, truth) < 0.2 * voxels_apart(start, truth)


@pytest.mark.parametrize("compressibility", [0.1, 1.0])
def test_unrelated_structure_never_folds_the_field(compressibility):
    still = torch.zeros_like(on_cells(random_smooth(1, SHAPE, 3.0, channels=3)))
    found = refined((tissue(2), tissue(1)), still, iterations=400, compressibility=compressibility)
    assert found.any() and not folded_nodes(found).any()


def test_a_lesion_of_one_volume_keeps_its_volume_the_better_the_less_compressible():
    away = (identity_positions(SHAPE, CPU) - torch.tensor([18.0, 24.0, 20.0]).view(3, 1, 1, 1)).norm(dim=0)
    lesion = torch.sigmoid(2.0 * (6.0 - away))
    pair = tissue(1), torch.lerp(tissue(1), torch.ones(SHAPE), lesion)

    def lost(compressibility):
        still = torch.zeros_like(pool(lesion[None], 2)).expand(3, -1, -1, -1)
        field = upsample(refined(pair, still, compressibility=compressibility), 2, SHAPE)
        return abs(1.0 - float(warp(lesion[None], field).sum() / lesion.sum()))

    tissue_like, none = (lost(Settings.from_preset(preset).compressibility) for preset in ("lesion", "dce"))
    free = lost(1.0)
    assert free > 0.25, "else there would be nothing to keep"
    assert tissue_like < 0.15
    assert none < 0.01


def test_what_counts_nothing_pulls_nothing(pair, truth):
    start = 0.6 * on_cells(truth)
    zeros = torch.zeros(start.shape[1:])
    for weights in ((zeros, None), (None, zeros)):
        assert torch.equal(refined(pair, start, weights=weights), start)


def test_what_is_masked_out_does_not_drag_the_rest(pair, truth):
    fixed, moving = pair
    spoilt = fixed.clone()
    spoilt[:, :, 26:] = tissue(3)[:, :, 26:]
    weight = torch.ones(18, 24, 20)
    weight[:, :, 13:] = 0.0
    start = 0.6 * on_cells(truth)
    found = refined((spoilt, moving), start, weights=(weight, None))
    inside = (slice(None), slice(3, -3), slice(3, -3), slice(3, 10))
    left, before = ((field - on_cells(truth))[inside].norm(dim=0).mean() for field in (found, start))
    assert left < 0.5 * before


@pytest.mark.parametrize("shape", [(37, 45, 41), (35, 33, 46), (5, 40, 40), (1, 24, 24)])
def test_sizes_that_are_no_multiple_of_a_cell(shape):
    truth = 0.75 * random_smooth(7, shape, 7.0, channels=3)
    if min(shape) < 10:
        truth[0] = 0.0  # too thin to move across
    start = 0.5 * on_cells(truth)
    found = refined(displaced_by(truth), start)
    assert found.shape == start.shape
    before, after = ((field - on_cells(truth)).norm(dim=0).mean() for field in (start, found))
    assert after < 0.6 * before


def test_progress_grows_and_ends_within_the_stage(pair, truth):
    events = []
    refined(pair, 0.6 * on_cells(truth), progress=Progress({"test": 1.0}, events.append))
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert 0.6 < fractions[-1] <= 1.0


def test_it_can_be_cancelled(pair, truth):
    progress = Progress({"test": 1.0}, cancelled=lambda: True)
    with pytest.raises(RegistrationCancelledError):
        refined(pair, on_cells(truth), progress=progress)


def test_it_is_left_out_with_no_iterations_and_has_the_settings_otherwise():
    assert not any(isinstance(each, FluidRefinement) for each in stages_of(Settings(fluid_iterations=0)))
    made = stage(FluidRefinement, Settings(fluid_iterations=7, compressibility=0.3))
    assert (made.iterations, made.compressibility) == (7, 0.3)


def test_it_ends_convex_adam_on_the_same_cells(pair, truth):
    cells = [pool(volume[None], 2) for volume in pair]
    settings = Settings(grid_spacing=4, displacement_half_width=2)
    with_it, without = (run(*cells, settings, voxel_mm=1.0, intensities=given) for given in (pair, None))
    assert with_it.displacement.shape == without.displacement.shape
    assert voxels_apart(with_it.displacement, truth) < 0.7 * voxels_apart(without.displacement, truth)
