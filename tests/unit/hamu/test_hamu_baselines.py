"""The peer methods by hand, with both signs of the conflict."""

import pytest
import torch

from core.hamu.baselines import gdiff, gru, kl, pcgrad, scrub

E1, E2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
R = 2 * E1
AGAINST, ALONG = E2 - E1, E2 + E1  # r·f = -2 and 2


def close(got, wanted):
    assert len(got) == 1
    torch.testing.assert_close(got[0], wanted)


def test_gdiff_and_kl_average_descent_and_ascent():
    close(gdiff([R], [ALONG]), (R - ALONG) / 2)
    close(kl([R], [ALONG]), (R - ALONG) / 2)


def test_scrub_weighs_its_three_gradients():
    close(scrub([R], [E2], [ALONG], alpha=0.5, gamma=0.25), (0.5 * E2 + 0.25 * R - ALONG) / 2)


def test_gru_projects_where_it_is_told_the_conflict_is():
    close(gru([R], [AGAINST]), -E2)
    close(gru([R], [ALONG]), -ALONG)
    close(gru([R], [AGAINST], corrected_sign=True), -AGAINST)
    close(gru([R], [ALONG], corrected_sign=True), -E2)


def test_pcgrad_projects_both():
    close(pcgrad([R], [AGAINST]), ((-AGAINST - E1) + (R + AGAINST)) / 2)
    close(pcgrad([R], [ALONG]), (R - ALONG) / 2)
    close(pcgrad([R], [AGAINST], corrected_sign=True), (R - AGAINST) / 2)
    close(pcgrad([R], [ALONG], corrected_sign=True), ((-ALONG + E1) + (R - ALONG)) / 2)


@pytest.mark.parametrize("peer", [gru, pcgrad])
def test_corrected_projection_does_not_harm_retaining(peer):
    """A descent step along the result must not raise the retain loss to first order."""
    for seed in range(20):
        r, f = torch.randn(2, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert float(r @ peer([r], [f], corrected_sign=True)[0]) >= -1e-9


@pytest.mark.parametrize("peer", [gru, pcgrad])
def test_tau_shortens_and_never_lengthens(peer):
    assert float(peer([R], [ALONG], tau=0.1)[0].norm()) == pytest.approx(0.1)
    torch.testing.assert_close(peer([R], [ALONG], tau=100.0)[0], peer([R], [ALONG])[0])


def test_products_are_the_whole_models():
    """Two tensors whose own products have opposite signs: the sum decides for both."""
    r, f = [R, E2], [AGAINST, 10 * E2]  # k = -2 + 10
    assert all(torch.equal(got, -given) for got, given in zip(gru(r, f), f, strict=True))


def test_missing_gradients_are_zero_and_absent_ones_stay_absent():
    assert gdiff([R, None, None], [None, E2, None])[2] is None
    torch.testing.assert_close(gdiff([R, None], [None, E2])[0], R / 2)
    torch.testing.assert_close(gdiff([R, None], [None, E2])[1], -E2 / 2)
    torch.testing.assert_close(gru([None], [E2])[0], -E2)
