"""The joint principal components of both volumes, and the spool their tokens come from."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from volumes import noise

from FoundationRegistrationLib.features import FEATURE_VARIANCE, reduce_jointly
from FoundationRegistrationLib.features.spool import TokenSpool


@pytest.fixture
def tokens():
    """Correlated tokens of two volumes of different size with different means, and where the patient is."""
    mixing = torch.linalg.qr(noise(0, 10, 10) - 0.5).Q * torch.tensor([9, 6, 4, 3, 2, 1, 1, 0.5, 0.3, 0.1])
    generator = torch.Generator().manual_seed(1)
    sets = [torch.randn((n, 10, 6, 7), generator=generator) for n in (4, 5)]
    sets = [torch.einsum("ij,njhw->nihw", mixing, s) + m for s, m in zip(sets, (1.0, 3.0), strict=True)]
    inside = [noise(i, n, 6, 7) < 0.7 for i, n in ((2, 4), (3, 5))]
    return sets, inside


def rows(volumes, masks=None):
    """Tokens as (count, channels) float64 of all volumes, those of the masks only if given."""
    parts = [volume.permute(0, 2, 3, 1) for volume in volumes]
    if masks is not None:
        parts = [part[mask] for part, mask in zip(parts, masks, strict=True)]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]).double().numpy()


def test_components_agree_with_a_plain_singular_value_decomposition(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 4)
    fitted = rows(sets, inside)
    mean = fitted.mean(axis=0)
    _, singular, axes = np.linalg.svd(fitted - mean, full_matrices=False)
    variances = singular**2 / (len(fitted) - 1)
    np.testing.assert_allclose(explained, (variances / variances.sum())[:4], rtol=1e-4)
    expected = (rows(sets) - mean) @ axes[:4].T * (FEATURE_VARIANCE / variances[:4].sum()) ** 0.5
    found = rows(reduced)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, signs * expected, atol=1e-4)


def test_reduced_features_are_centred_and_scaled_over_the_patient(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 3)
    fitted = rows(reduced, inside)
    np.testing.assert_allclose(fitted.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(fitted.var(axis=0, ddof=1).sum(), FEATURE_VARIANCE, rtol=1e-4)
    covariance = np.cov(fitted.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert list(explained) == sorted(explained, reverse=True)
    assert 0.5 < sum(explained) <= 1.0


def test_scale_of_the_tokens_does_not_matter(tokens):
    sets, inside = tokens
    reduced, _ = reduce_jointly(sets, inside, 3)
    larger, _ = reduce_jointly([1000.0 * s for s in sets], inside, 3)
    np.testing.assert_allclose(np.abs(rows(larger)), np.abs(rows(reduced)), atol=1e-4)


def test_both_volumes_go_through_the_same_projection(tokens):
    """Equal tokens become equal features whichever volume they are in, and means are not removed one by one."""
    sets, inside = tokens
    fixed, moving = sets[0], sets[1].clone()
    moving[2] = fixed[3]
    reduced, _ = reduce_jointly([fixed, moving], inside, 5)
    assert torch.equal(reduced[0][3], reduced[1][2])
    assert not np.allclose(rows([reduced[0]]).mean(axis=0), 0, atol=0.05)


def test_tokens_outside_the_patient_do_not_change_the_projection(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 3)
    other = [torch.where(mask[:, None], s, 100.0 * noise(7, *s.shape)) for s, mask in zip(sets, inside, strict=True)]
    again, explained_again = reduce_jointly(other, inside, 3)
    np.testing.assert_allclose(rows(again, inside), rows(reduced, inside), atol=1e-5)
    assert explained_again == pytest.approx(explained)


def test_the_reduction_is_deterministic(tokens):
    sets, inside = tokens
    first, explained = reduce_jointly(sets, inside, 6)
    for _ in range(2):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002 - what scikit-learn would draw from
        second, explained_again = reduce_jointly([s.clone() for s in sets], inside, 6)
        assert explained == explained_again
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_all_components_keep_all_distances(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 10)
    assert sum(explained) == pytest.approx(1.0)
    before, after = rows(sets), rows(reduced)
    ratio = np.linalg.norm(after[1:] - after[:-1], axis=1) / np.linalg.norm(before[1:] - before[:-1], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_no_more_components_than_channels(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 24)
    assert [part.shape[1] for part in reduced] == [10, 10]
    assert len(explained) == 10


def test_an_almost_empty_foreground_falls_back_to_all_tokens(tokens):
    sets, _ = tokens
    nowhere = [torch.zeros(s.shape[0], *s.shape[2:], dtype=torch.bool) for s in sets]
    everywhere = [~mask for mask in nowhere]
    for found, expected in zip(
        reduce_jointly(sets, nowhere, 3)[0], reduce_jointly(sets, everywhere, 3)[0], strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_equal_tokens_give_finite_features():
    flat = [torch.full((2, 5, 4, 4), 0.5)] * 2
    reduced, explained = reduce_jointly(flat, [torch.ones(2, 4, 4, dtype=torch.bool)] * 2, 3)
    assert all(part.isfinite().all() for part in reduced)
    assert np.isfinite(explained).all()


def test_components_are_those_of_scikit_learn_and_so_are_their_signs(tokens):
    sets, inside = tokens
    reduced, explained = reduce_jointly(sets, inside, 4)
    reference = PCA(4, svd_solver="full").fit(rows(sets, inside))
    expected = reference.transform(rows(sets)) * (FEATURE_VARIANCE / reference.explained_variance_.sum()) ** 0.5
    np.testing.assert_allclose(rows(reduced), expected, atol=1e-4)
    np.testing.assert_allclose(explained, reference.explained_variance_ratio_, rtol=1e-4)


def test_a_large_common_offset_does_not_spoil_the_components(tokens):
    sets, inside = tokens
    reduced, _ = reduce_jointly(sets, inside, 3)
    shifted, _ = reduce_jointly([s + 300.0 for s in sets], inside, 3)
    np.testing.assert_allclose(rows(shifted), rows(reduced), atol=2e-3)


@pytest.mark.parametrize("budget", [0, 10_000, 10**9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_tokens_come_back_as_they_went_in_from_memory_and_from_disk(budget, kind):
    first, second = noise(0, 3, 5, 6, 7).to(kind), noise(1, 2, 5, 6, 7).to(kind)
    with TokenSpool(budget) as spool:
        spool.empty = torch.full((5, 6, 7), 0.25)
        spool.append(first)
        spool.append_empty()
        spool.append(second)
        expected = torch.cat([first.float(), spool.empty[None], second.float()])
        for _ in range(2):
            assert torch.equal(torch.stack(list(spool)), expected)
        assert (len(spool), spool.tokens) == (6, (6, 7))
