"""Fields are made free of folds, and changed only near them."""

import pytest
import torch
from fields import CPU, random_smooth

from FoundationRegistrationLib.convex_adam.unfolding import LEAST_DETERMINANT, folded_nodes, unfold
from FoundationRegistrationLib.spatial.sampling import (
    identity_positions,
    sample,
)


def determinants(displacement):
    """The Jacobian determinant of the trilinearly interpolated map, at random places inside the cells."""
    shape = displacement.shape[1:]
    limits = torch.tensor(shape).view(3, 1, 1, 1) - 1.0
    inside = torch.rand(3, 20, 30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * limits
    here = inside.requires_grad_(True)
    moved = here + sample(displacement.double(), here)
    rows = [torch.autograd.grad(component.sum(), here, retain_graph=True)[0] for component in moved]
    return torch.linalg.det(torch.stack(rows).permute(2, 3, 4, 0, 1))


@pytest.mark.parametrize("strength", [2.0, 8.0])
def test_no_fold_is_left_however_wild_the_field(strength):
    wild = strength * random_smooth(11, (19, 22, 25), 1.5, channels=3)
    assert (determinants(wild) <= 0).any()
    tamed, changed = unfold(wild)
    assert (determinants(tamed) > 0).all()
    assert not folded_nodes(tamed).any()
    assert 0 < changed <= 1


def test_only_what_is_near_a_fold_is_changed():
    shape = (24, 26, 40)
    gentle = random_smooth(12, shape, 5.0, channels=3)
    assert torch.equal(unfold(gentle)[0], gentle)
    assert unfold(gentle)[1] == 0
    folded = gentle.clone()
    folded[2, 10:14, 11:15, 10] += 3.0
    tamed, changed = unfold(folded)
    assert (determinants(tamed) > 0).all()
    assert torch.equal(tamed[..., 24:], gentle[..., 24:])
    assert changed < 0.3


@pytest.mark.parametrize("keep", [False, True])
def test_it_does_not_matter_how_much_there_is_around_the_folds(keep):
    folded = 0.3 * random_smooth(13, (40, 44, 48), 5.0, channels=3)
    folded[0, 12:15, 12:15, 12:15] += 4.0
    kept = torch.zeros(folded.shape[1:], dtype=torch.bool)
    kept[13, 13, 13:16] = keep
    part = (slice(None), *(slice(32),) * 3)
    whole, share = unfold(folded, kept)
    cut, share_of_cut = unfold(folded[part], kept[part[1:]])
    assert torch.equal(whole[part], cut)
    assert share * kept.numel() == pytest.approx(share_of_cut * 32**3, rel=1e-5)


def test_uniform_shrinking_is_no_fold_until_it_is_extreme():
    positions = identity_positions((8, 8, 8), CPU)
    assert not folded_nodes(-0.5 * positions).any()
    limit = 1.0 - LEAST_DETERMINANT ** (1 / 3)
    assert folded_nodes(-(limit + 0.01) * positions).all()
    assert not folded_nodes(-(limit - 0.01) * positions).any()
