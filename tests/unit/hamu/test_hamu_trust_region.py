"""The trust region: its single decisions, and what a run under it guarantees."""

import math

import pytest
import torch
from torch import Tensor, nn

from core.hamu import HAMU, TrustRegion

REGION = TrustRegion()
KEPT = {"promised_gain": 1.0, "realised_gain": 1.0, "predicted_retain_change": -0.1, "realised_retain_change": -0.1}


def test_agreement_grows_the_rate():
    decision = REGION.judge(0.1, **KEPT)
    assert (decision.accepted, decision.cause, decision.agreement) == (True, None, 1.0)
    assert decision.learning_rate == pytest.approx(0.13)


def test_a_fair_step_is_kept_at_the_same_rate():
    decision = REGION.judge(0.1, **(KEPT | {"realised_gain": 0.5}))
    assert decision.accepted
    assert decision.learning_rate == 0.1


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ({"realised_gain": 0.2}, "gain_short"),
        ({"realised_gain": -1.0}, "gain_short"),
        ({"realised_retain_change": 0.6}, "retain_overrun"),
        ({"allowed_gain": 0.9}, "target_passed"),
        ({"realised_gain": math.nan}, "non_finite"),
        ({"realised_retain_change": math.inf}, "non_finite"),
    ],
)
def test_a_broken_promise_is_retried_at_a_smaller_rate(what, cause):
    decision = REGION.judge(0.1, **(KEPT | what))
    assert (decision.accepted, decision.retry, decision.cause) == (False, True, cause)
    assert decision.learning_rate == pytest.approx(0.05)


def test_retries_are_counted_out():
    bad = KEPT | {"realised_gain": 0.0}
    assert REGION.judge(0.1, **bad, retries=REGION.max_retries - 1).retry
    assert not REGION.judge(0.1, **bad, retries=REGION.max_retries).retry


def test_the_rate_stays_between_floor_and_cap():
    region = TrustRegion(floor=0.01, cap=0.1)
    assert region.judge(0.1, **KEPT).learning_rate == 0.1
    at_floor = region.judge(0.01, **(KEPT | {"realised_gain": 0.0}))
    assert at_floor.learning_rate == 0.01
    assert not at_floor.retry


def test_promises_below_the_resolution_of_a_loss_do_not_shrink_the_rate():
    tiny = {"promised_gain": 1e-9, "realised_gain": 0.0, "predicted_retain_change": 0.0, "realised_retain_change": 1e-7}
    assert not REGION.judge(0.1, **tiny).accepted
    decision = REGION.judge(0.1, **tiny, resolution=1e-6)
    assert decision.accepted
    assert decision.learning_rate == pytest.approx(0.13)


def test_limit_keeps_the_promise_within_the_way_left():
    assert REGION.limit(0.1, promised_gain=2.0, remaining_gain=0.5) == pytest.approx(0.025)
    assert REGION.limit(0.1, promised_gain=0.2, remaining_gain=0.5) == 0.1
    assert REGION.limit(0.1, promised_gain=0.2, remaining_gain=-1.0) == REGION.floor


def test_limit_lifts_a_promise_that_could_not_be_seen():
    wanted = {"remaining_gain": 2.0, "least_gain": 1e-3}
    assert REGION.limit(0.1, promised_gain=1e-7, **wanted) == pytest.approx(0.1 * 1e-3 / 1e-7)
    assert REGION.limit(0.1, promised_gain=1e-3, **wanted) == 0.1
    assert REGION.limit(0.1, promised_gain=0.0, **wanted) == 0.1
    assert REGION.limit(0.1, promised_gain=1e-7, remaining_gain=1e-4, least_gain=1e-3) < 0.1 * 1e-3 / 1e-7


@pytest.mark.parametrize(
    "wrong", [{"shrink": 1.0}, {"growth": 0.9}, {"floor": 0.0}, {"accept_share": 0.9}, {"leap": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="needs"):
        TrustRegion(**wrong)


class Quadratics:
    """Retain and forget losses ½(w - c)ᵀH(w - c) with random positive definite H."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(20, generator=generator, dtype=torch.float64))
        self.sides = []
        for _ in range(2):
            root = torch.randn(20, 20, generator=generator, dtype=torch.float64)
            centre = torch.randn(20, generator=generator, dtype=torch.float64)
            self.sides.append((root @ root.T / 20 + 0.1 * torch.eye(20, dtype=torch.float64), centre))

    def loss(self, side: int) -> Tensor:
        bowl, centre = self.sides[side]
        away = self.w - centre
        return away @ bowl @ away / 2


class Network:
    """A network of eight units and its losses on twelve records of each set."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        self.x, self.y = torch.randn(24, 4, dtype=torch.float64), torch.randint(0, 3, (24,))

    def loss(self, side: int) -> Tensor:
        half = slice(12 * side, 12 * side + 12)
        return nn.functional.cross_entropy(self.model(self.x[half]), self.y[half])


def run(task: Quadratics | Network, *, lr: float, gain: float, steps: int) -> tuple[list[float], list[float], float]:
    """Agreement and gain of each kept step, and the total gain."""
    weights = [task.w] if isinstance(task, Quadratics) else list(task.model.parameters())
    optimizer = HAMU(weights, lr, exact_retract=True, stop_rule="none")
    first = float(task.loss(1).detach())
    agreements: list[float] = []
    gains: list[float] = []
    for _ in range(steps):
        assessment = optimizer.assess(retain_loss=lambda: task.loss(0), forget_loss=lambda: task.loss(1))
        before = [float(task.loss(side).detach()) for side in (0, 1)]
        left = first + gain - before[1]
        if left <= 0.05 * gain:
            break
        rate = optimizer.param_groups[0]["lr"]
        promised = float(optimizer.plan(assessment).promised_forget_gain)
        optimizer.param_groups[0]["lr"] = REGION.limit(rate, promised_gain=promised, remaining_gain=left)
        for retries in range(40):
            step = optimizer.apply(assessment)
            after = [float(task.loss(side).detach()) for side in (0, 1)]
            decision = REGION.judge(
                optimizer.param_groups[0]["lr"],
                promised_gain=float(step.promised_forget_gain),
                realised_gain=after[1] - before[1],
                predicted_retain_change=float(step.predicted_retain_change),
                realised_retain_change=after[0] - before[0],
                allowed_gain=left + 0.1 * gain,
                retries=min(retries, 1),
            )
            optimizer.param_groups[0]["lr"] = decision.learning_rate
            if decision.accepted:
                agreements.append((after[1] - before[1]) / float(step.promised_forget_gain))
                gains.append(after[1] - before[1])
                break
            optimizer.retract(step)
    return agreements, gains, float(task.loss(1).detach()) - first


@pytest.mark.parametrize("lr", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", [Quadratics, Network])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_kept_step_realises_its_share_and_the_target_is_not_leapt_over(kind, seed, lr):
    agreements, _, total = run(kind(seed), lr=lr, gain=1.0, steps=150)
    assert agreements
    assert min(agreements) >= REGION.accept_share
    assert 0.95 <= total <= 1.1 + 1e-9


def test_without_the_trust_region_the_same_rate_breaks_the_promise():
    """Guards the test above: at this rate a step really does miss its share."""
    task = Network(0)
    optimizer = HAMU(task.model.parameters(), 1e3, stop_rule="none")
    step = optimizer.step(retain_loss=lambda: task.loss(0), forget_loss=lambda: task.loss(1))
    change = float(task.loss(0).detach() - step.retain_loss)
    gain = float(task.loss(1).detach() - step.forget_loss)
    promised = float(step.promised_forget_gain)
    assert gain < REGION.accept_share * promised or change > REGION.retain_share * promised
