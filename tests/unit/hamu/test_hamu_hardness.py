"""S, C, κ and the verdict, with numbers worked out by hand, and the stop rule."""

import math

import pytest
import torch

E1, E2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def at(cosine: float, norm: float = 1.0) -> torch.Tensor:
    return norm * (cosine * E1 + math.sqrt(1 - cosine**2) * E2)


def test_reach_and_free_capacity_by_hand(take):
    """Blocks of norms (3, 2) at cosine 0.6 and (1, 4) at cosine -0.6: p = 6 and 4, S = 10, C = 6 x 0.8 + 4."""
    step, _ = take([3 * E1, E1], [at(0.6, 2.0), at(-0.6, 4.0)], quota_ratio=0.5)
    row = step.row()
    assert row["S"] == pytest.approx(10.0)
    assert row["C"] == pytest.approx(8.8)
    assert row["kappa"] == pytest.approx(6 * 0.6 - 4 * 0.6)
    assert row["kappa_1"] == pytest.approx(-5.0)
    assert row["kappa_2"] == pytest.approx(6 * math.sqrt(0.75) + 4 * math.sqrt(0.75))
    assert row["quota"] == pytest.approx(0.1 * 5.0)
    assert row["stopping_margin"] == pytest.approx(3.8)
    assert (row["direct"], row["rectified"]) == (0.5, 0.5)
    assert row["cosine"] == pytest.approx(1.2 / math.sqrt(10 * 20))


@pytest.mark.parametrize(
    ("cosine", "verdict"), [(-0.99, "easy"), (-0.51, "easy"), (-0.49, "hard"), (0.8, "hard"), (0.88, "irreconcilable")]
)
def test_verdict_of_one_block_is_the_papers(take, cosine, verdict):
    """At half of S: κ₁ = -0.5 and κ₂ = √0.75 = 0.866 in units of p."""
    step, _ = take([2 * E1], [at(cosine, 3.0)], quota_ratio=0.5)
    row = step.row()
    assert step.verdict == row["verdict"] == verdict
    assert (row["kappa"] <= row["kappa_1"]) == (verdict == "easy")
    assert (row["kappa"] > row["kappa_2"]) == (verdict == "irreconcilable")
    assert (step.stop_reason == "collateral_forgetting_unavoidable") == (verdict == "irreconcilable")


def test_no_retain_cost_is_predicted_unless_irreconcilable(take):
    for cosine in (-0.9, 0.0, 0.5, 0.8):
        step, _ = take([E1], [at(cosine)], quota_ratio=0.5, stop_rule="none")
        assert float(step.predicted_retain_change) < 0, cosine
    step, _ = take([E1], [at(0.95)], quota_ratio=0.5, stop_rule="none")
    assert float(step.predicted_retain_change) > 0


def test_opposed_gradients_are_easy_unless_the_published_rule_is_asked_for(take):
    step, (delta,) = take([E1], [at(-0.99)], quota_ratio=0.5)
    assert not bool(step.should_stop)
    assert bool(delta.any())
    step, (delta,) = take([E1], [at(-0.99)], quota_ratio=0.5, stop_rule="two_sided")
    assert step.stop_reason == "collateral_forgetting_unavoidable"
    assert not bool(delta.any())


def test_slack_stops_earlier(take):
    r, f = E1, at(0.8)  # C = 0.6 S
    assert not bool(take([r], [f], quota_ratio=0.55)[0].should_stop)
    assert bool(take([r], [f], quota_ratio=0.55, stop_slack=0.1)[0].should_stop)


def test_a_stop_leaves_the_weights_alone_and_none_goes_on(take):
    step, (delta,) = take([E1], [at(0.99)], quota_ratio=0.9)
    assert bool(step.should_stop)
    assert not bool(delta.any())
    step, (delta,) = take([E1], [at(0.99)], quota_ratio=0.9, stop_rule="none")
    assert not bool(step.should_stop)
    assert bool(delta.any())


def test_hardness_does_not_depend_on_the_rate(take):
    rows = [take([E1], [at(0.5)], lr=lr)[0].row() for lr in (1e-6, 1e-1, 10.0)]
    for name in ("S", "C", "kappa", "kappa_1", "kappa_2", "stopping_margin"):
        assert len({round(float(row[name]), 12) for row in rows}) == 1, name


def test_branch_shares_leave_out_blocks_that_cannot_move(take):
    step, _ = take([E1, E1, 0 * E1], [at(0.5), at(-0.9), 0 * E1])
    row = step.row()
    assert (row["direct"], row["rectified"], row["colinear"], row["infeasible"]) == (0.5, 0.5, 0.0, 0.0)
