"""Agreement with the official ConvexAdam package (`convexAdam` on PyPI) on equal features and settings.

Two things differ on purpose. The official code divides displacements by (N - 1) / 2 but samples with
`align_corners=False`, so that a displacement of u cells is looked up at u N / (N - 1); each test says how it
takes that into account. And at the border of the grid the official filters and look-ups count zeros, ours
repeat or leave out what is not there; so fields are compared inside.
"""

import convexAdam.convex_adam_MIND as official
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convexAdam.convex_adam_utils import correlate, inverse_consistency
from convexAdam.convex_adam_utils import coupled_convex as official_coupled_convex
from scipy import ndimage
from stages import run

from FoundationRegistrationLib.convex_adam.cost_volume import candidate_displacements, cost_volume
from FoundationRegistrationLib.convex_adam.coupled_convex import coupled_convex
from FoundationRegistrationLib.convex_adam.inverse_consistency import make_inverse_consistent
from FoundationRegistrationLib.encoders.mind import MindEncoder
from FoundationRegistrationLib.features import pool
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.spatial.sampling import upsample

CPU = torch.device("cpu")
SHAPE = (72, 90, 78)  # multiples of 6, all different: the official code cuts anything else off
GRID_SPACING, ADAM_SPACING, HALF_WIDTH = 6, 2, 4
QUIET = Progress({"test": 1.0})


def random_smooth(rng, shape, sigma):
    """Noise of unit variance, smooth over `sigma` voxels."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return smooth / smooth.std()


INDEX = np.indices(SHAPE).astype(float)
FROM_BORDER = np.min([np.minimum(i, n - 1 - i) for i, n in zip(INDEX, SHAPE, strict=True)], axis=0)
INSIDE = FROM_BORDER >= 20


@pytest.fixture(scope="module")
def texture():
    """A volume with structure everywhere, so that no cell is left to chance; it repeats beyond its border."""
    rng = np.random.default_rng(0)
    return random_smooth(rng, SHAPE, 2.0) + 4.0 * random_smooth(rng, SHAPE, 5.0)


def features_and_truth(moving, largest, fade):
    """Features of the deformed and of the given volume, and the displacement between them in voxels.

    Args:
        moving: (Z, H, W) volume.
        largest: component of the displacement, voxels.
        fade: whether the displacement goes to zero before the border, where the implementations differ.
    """
    rng = np.random.default_rng(1)
    window = ndimage.gaussian_filter(np.clip((FROM_BORDER - 9) / 18, 0, 1), 3) if fade else 1.0
    truth = np.stack([random_smooth(rng, SHAPE, 20.0) for _ in range(3)]) * window
    truth *= largest / np.abs(truth).max()
    fixed = ndimage.map_coordinates(moving, INDEX + truth, order=3, mode="grid-wrap")
    encoder = MindEncoder(radius=1, dilation=2)
    features = [encoder.encode(torch.from_numpy(volume).float()[None]) for volume in (fixed, moving)]
    return features[0], features[1], truth


@pytest.fixture(scope="module")
def search_pair(texture):
    """Features (1, 12, Z, H, W) of a pair with motion up to the border."""
    return features_and_truth(texture, 15.0, fade=False)[:2]


@pytest.fixture(scope="module")
def searches(search_pair):
    """Cost volumes and fields of both implementations in both directions, on the search grid."""
    coarse = [F.avg_pool3d(features, GRID_SPACING) for features in search_pair]
    candidates = candidate_displacements(HALF_WIDTH, CPU)
    width = 2 * HALF_WIDTH + 1
    mesh = F.affine_grid(HALF_WIDTH * torch.eye(3, 4)[None], (1, 1, width, width, width), align_corners=True)
    mesh = mesh.permute(0, 4, 1, 2, 3).reshape(3, -1, 1)
    result = []
    for one, other in (coarse, coarse[::-1]):
        theirs, cheapest = correlate(one, other, HALF_WIDTH, GRID_SPACING, SHAPE, ch=12)
        ours = cost_volume(one[0], other[0], HALF_WIDTH, None, QUIET)
        their_field = official_coupled_convex(theirs, cheapest, mesh, GRID_SPACING, SHAPE)[0]
        result.append((ours, theirs, coupled_convex(ours, candidates), their_field))
    return result


def inside_error(ours, theirs, border):
    """Mean absolute difference of two fields (3, z, y, x) further than `border` from the edge of the grid."""
    inner = (slice(None), *(slice(border, size - border) for size in ours.shape[1:]))
    return float((ours[inner] - theirs[inner]).abs().mean())


def test_the_cost_volume_equals_the_official_one(searches):
    width = 2 * HALF_WIDTH + 1
    for ours, theirs, _, _ in searches:
        grid = ours.shape[1:]
        # Official candidates run over x, y, z; ours over z, y, x.
        reordered = theirs.view(width, width, width, *grid).permute(2, 1, 0, 3, 4, 5).reshape(ours.shape)
        torch.testing.assert_close(ours, reordered, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(ours, theirs, rtol=1e-2)


def test_the_coupled_convex_field_equals_the_official_one_up_to_the_border(searches):
    for _, _, ours, theirs in searches:
        assert float(theirs.abs().max()) > 0.5
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_inverse_consistency_equals_the_official_one_called_with_the_scale_it_should_have(searches):
    (_, _, _, forward), (_, _, _, backward) = searches
    ours, our_backward = make_inverse_consistent(forward, backward, 15)
    half_sizes = torch.tensor(forward.shape[1:]).view(1, 3, 1, 1, 1) / 2
    theirs, their_backward = inverse_consistency(
        (forward[None] / half_sizes).flip(1), (backward[None] / half_sizes).flip(1), iter=15
    )
    for mine, other in ((ours, theirs), (our_backward, their_backward)):
        assert inside_error(mine, (other.flip(1) * half_sizes)[0], 3) * GRID_SPACING < 0.01, "voxels"
    assert inside_error(ours, forward, 3) * GRID_SPACING > 0.02, "the fields were consistent from the start"


def test_inverse_consistency_shows_the_official_scale_error_when_called_as_the_package_does(searches):
    """The counterpart of the test above: it could not pass with any scale."""
    (_, _, _, forward), (_, _, _, backward) = searches
    ours, _ = make_inverse_consistent(forward, backward, 15)
    wrong = (torch.tensor(forward.shape[1:]).view(1, 3, 1, 1, 1) - 1) / 2
    theirs, _ = inverse_consistency((forward[None] / wrong).flip(1), (backward[None] / wrong).flip(1), iter=15)
    assert inside_error(ours, (theirs.flip(1) * wrong)[0], 3) * GRID_SPACING > 0.01


def test_the_discrete_stage_agrees_end_to_end(search_pair, searches):
    fixed, moving = search_pair
    settings = Settings.from_preset("convexadam", iterations=0)
    found = run(pool(fixed[0], ADAM_SPACING), pool(moving[0], ADAM_SPACING), settings, voxel_mm=1.0)
    (_, _, _, forward), (_, _, _, backward) = searches
    half_sizes = torch.tensor(forward.shape[1:]).view(1, 3, 1, 1, 1) / 2
    theirs, _ = inverse_consistency(
        (forward[None] / half_sizes).flip(1), (backward[None] / half_sizes).flip(1), iter=15
    )
    theirs = F.interpolate(
        theirs.flip(1) * half_sizes * GRID_SPACING, size=SHAPE, mode="trilinear", align_corners=False
    )[0]
    ours = upsample(found.displacement, ADAM_SPACING, SHAPE)
    assert inside_error(ours, theirs, 20) < 0.05, "voxels"


def test_the_final_field_agrees_with_the_package_end_to_end(texture, monkeypatch):
    fixed, moving, truth = features_and_truth(texture, 10.0, fade=True)
    monkeypatch.setattr(official, "extract_features", lambda **_: (fixed, moving))
    volumes = [np.zeros(SHAPE, np.float32)] * 2  # only their shape is read: the features are given
    theirs = np.moveaxis(official.convex_adam_pt(*volumes, dtype=torch.float32, device=CPU), -1, 0)
    cells = np.array(SHAPE)[:, None, None, None] / ADAM_SPACING
    theirs_rescaled = theirs * cells / (cells - 1)

    settings = Settings.from_preset("convexadam")
    found = run(pool(fixed[0], ADAM_SPACING), pool(moving[0], ADAM_SPACING), settings, voxel_mm=1.0)
    ours = upsample(found.displacement, ADAM_SPACING, SHAPE).numpy()

    def error(one, other):
        return np.abs(one - other)[:, INSIDE].mean()

    assert len(found.energies) == 80
    assert error(truth, 0 * truth) > 2.0, "there is something to find"
    assert error(ours, truth) < 0.4, "both found it"
    assert error(ours, theirs_rescaled) < 0.03, "voxels; 0.1 is required"
    assert error(ours, theirs_rescaled) < error(ours, theirs), "the scale error was accounted for"
    assert error(ours, truth) < error(theirs, truth)
