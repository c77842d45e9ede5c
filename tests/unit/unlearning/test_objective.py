"""Targets matched by rank, and the objective that pulls records to them."""

import math

import numpy as np
import pytest
import torch

from core.unlearning.objective import (
    AIM,
    PULL,
    ForgetObjective,
    matched_targets,
    rounding,
    standing,
    surprise,
    value_of,
)


def test_ranks_are_matched() -> None:
    targets = matched_targets(np.array([0.3, 0.1, 0.2]), np.array([9.0, 1.0, 5.0]))
    np.testing.assert_allclose(targets, [9.0, 1.0, 5.0])


def test_shares_of_a_larger_holdout_are_averaged() -> None:
    targets = matched_targets(np.array([0.1, 0.2]), np.array([1.0, 2.0, 4.0, 8.0]))
    np.testing.assert_allclose(targets, [1.5, 6.0])


def test_the_mean_of_the_targets_is_the_holdouts_whatever_the_sizes() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((3, 7), (7, 3), (1, 5), (5, 1), (10, 10)):
        holdout = rng.exponential(size=m)
        np.testing.assert_allclose(matched_targets(rng.random(n), holdout).mean(), holdout.mean())


def test_surprise_is_the_log_odds_against_the_answer() -> None:
    losses = -torch.tensor([0.5, 0.2, 0.99], dtype=torch.float64).log()
    torch.testing.assert_close(
        surprise(losses), torch.tensor([0.0, math.log(4), math.log(1 / 99)]).double(), atol=2e-3, rtol=0
    )


def test_the_surprise_of_sure_answers_is_uncertain_as_their_losses_are_rounded() -> None:
    assert rounding(np.array([1e-4, 50.0])) == pytest.approx((1e-7 / 1.1e-4 + 1e-7) / 2, rel=1e-3)


def test_the_gradient_of_a_sure_answer_does_not_vanish() -> None:
    logits = torch.tensor([[9.0, 0.0]], requires_grad=True)
    surprise(torch.nn.functional.cross_entropy(logits, torch.tensor([0]), reduction="none")).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]), atol=0.1, rtol=0)


def test_a_loss_of_zero_has_a_finite_surprise_and_gradient() -> None:
    losses = torch.zeros(1, requires_grad=True)
    surprise(losses).sum().backward()
    assert losses.grad is not None
    assert bool(torch.isfinite(losses.grad).all())


def test_a_record_is_pushed_in_full_below_its_target_and_pulled_back_above() -> None:
    target = surprise(torch.tensor([2.0, 2.0, 2.0]))
    losses = torch.tensor([0.01, 2.0, 9.0])
    free = losses.clone().requires_grad_()
    surprise(free).sum().backward()
    bound = losses.clone().requires_grad_()
    ForgetObjective(target).values(bound, slice(0, 3)).sum().backward()
    assert free.grad is not None
    assert bound.grad is not None
    wanted = torch.tensor([1.0, (1 - PULL) / 2, -PULL])
    torch.testing.assert_close(bound.grad / free.grad, wanted, atol=1e-3, rtol=0)


def test_the_objective_ends_at_zero_a_little_beyond_the_target() -> None:
    losses = torch.linspace(1.5, 4, 1000)
    values = ForgetObjective(surprise(torch.full((1000,), 2.0))).values(losses, slice(0, 1000))
    assert float(values.max()) == pytest.approx(0.0, abs=1e-4)
    assert 2.0 < float(losses[values.argmax()]) < 2.6


def test_records_are_ranked_by_what_they_were_and_are() -> None:
    before, now = np.array([0.001, 0.002, 0.5]), np.array([3.0, 0.01, 0.6])
    assert standing(before, before).argsort().tolist() == [0, 1, 2]
    assert standing(before, now).argsort().tolist() == [1, 0, 2]  # carried far beyond one, not beyond the hard one
    np.testing.assert_allclose(standing(before, now)[2], (np.log(np.expm1(0.5)) + np.log(np.expm1(0.6))) / 2, atol=1e-4)


def test_an_objective_of_a_set_is_the_mean_of_its_records() -> None:
    objective = ForgetObjective(torch.tensor([1.0, 2.0]))
    losses = np.array([0.5, 3.0])
    values = objective.values(torch.tensor([0.5, 3.0]), slice(0, 2))
    assert value_of(objective, losses) == pytest.approx(float(values.mean()), abs=1e-6)


def test_far_below_the_target_the_objective_is_the_distance_left() -> None:
    objective, loss = ForgetObjective(torch.tensor([2.0])), torch.tensor([0.1])
    values = objective.values(torch.cat([loss, loss / 2]), slice(0, 1))
    torch.testing.assert_close(values[0] - values[1], surprise(loss)[0] - surprise(loss / 2)[0], atol=1e-3, rtol=0)


def test_micro_batches_see_their_own_targets() -> None:
    objective = ForgetObjective(torch.tensor([1.0, 2.0, 3.0]))
    losses = torch.tensor([0.5, 0.5, 0.5])
    parts = [objective.values(losses[part], part) for part in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(torch.cat(parts), objective.values(losses, slice(0, 3)))


def test_targets_lie_a_little_beyond_the_matched_losses() -> None:
    objective = ForgetObjective.matched(np.array([0.1, 0.2]), np.array([1.0, 3.0]), torch.device("cpu"))
    assert objective.targets is not None
    torch.testing.assert_close(objective.targets, surprise(AIM * torch.tensor([1.0, 3.0])))


def test_without_a_holdout_plain_surprise_counts() -> None:
    objective = ForgetObjective.matched(np.array([0.1]), np.empty(0), torch.device("cpu"))
    losses = torch.tensor([3.0])
    torch.testing.assert_close(objective.values(losses, slice(0, 1)), surprise(losses))


def test_a_target_of_zero_stays_finite() -> None:
    objective = ForgetObjective.matched(np.array([0.1]), np.array([0.0]), torch.device("cpu"))
    assert bool(torch.isfinite(objective.values(torch.tensor([5.0]), slice(0, 1))).all())
