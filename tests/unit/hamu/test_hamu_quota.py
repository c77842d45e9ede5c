"""How the quota is shared."""

import pytest
import torch

R = [torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])]
F = [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0])]


def shares(take, quota: str) -> list[float]:
    step, _ = take(R, F, quota=quota, quota_ratio=0.2, on_infeasible="clip")
    return (step.quotas / step.quotas.sum()).tolist()


def test_gradient_norm_shares_by_product_of_norms(take):
    total = 3 + 2**0.5
    assert shares(take, "gradient_norm") == pytest.approx([3 / total, 2**0.5 / total, 0.0])


def test_uniform_leaves_out_what_has_nothing_to_forget(take):
    assert shares(take, "uniform") == pytest.approx([0.5, 0.5, 0.0])


def test_softmax_prefers_easy_blocks(take):
    weight = torch.tensor(-1.0).exp().item()
    assert shares(take, "softmax") == pytest.approx([1 / (1 + weight), weight / (1 + weight), 0.0])


def test_softmax_survives_huge_hardness(take):
    big = [1e8 * r for r in R]
    step, _ = take(big, [-1e8 * f for f in F], quota="softmax", on_infeasible="clip")
    assert step.quotas.isfinite().all()
    assert float(step.quotas.sum()) == pytest.approx(float(step.hardness.quota))


@pytest.mark.parametrize("quota", ["gradient_norm", "uniform", "softmax"])
def test_shares_sum_to_the_dial(take, quota):
    step, _ = take(R, F, quota=quota, quota_ratio=0.2, on_infeasible="clip")
    assert float(step.quotas.sum()) == pytest.approx(0.2 * 0.1 * (3 + 2**0.5))


def test_a_rule_can_be_given(take):
    step, _ = take(R, F, quota=lambda problem: torch.tensor([1.0, 0.0, 0.0]).to(problem.dot), quota_ratio=0.2)
    assert (step.quotas > 0).tolist() == [True, False, False]
