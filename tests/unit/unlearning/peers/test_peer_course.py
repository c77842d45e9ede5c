"""A peer's run on a problem of two features: directions, endings, ledger."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from core.unlearning.bench import Bench
from core.unlearning.course import Run
from core.unlearning.job import Parameters
from core.unlearning.ledger import COLUMNS
from core.unlearning.peer_course import PeerCourse
from core.unlearning.peers import PEERS
from core.unlearning.teacher import Teacher
from tests.unit.unlearning.peers.tiny import Point, baseline_of, bench_of, weight_of

FORGET: list[Point] = [(2, 0.5, 0), (-1.5, -0.5, 1)]  # mostly by the first feature
RETAIN: list[Point] = [(0.1, 1, 0), (0.2, 1, 0), (-0.1, -1, 1), (0.1, -1, 1)]  # mostly by the second
STRANGERS: list[Point] = [(0.1, 0, 0), (0, 0.1, 1)]
FORGETTING = sorted(set(PEERS) - {"fine_tune", "scrub", "retrain"})


def trained(**more: Any) -> Bench:
    """Weights that know everything a little."""
    bench = bench_of(forget=FORGET, retain=RETAIN, **more)
    weight_of(bench).copy_(torch.tensor([[0.8, 0.8], [-0.8, -0.8]]))
    return bench


def run(bench: Bench, method: str, **parameters: Any) -> Run:
    settings = {"learning_rate": 0.02, "max_steps": 12, "retain_accuracy_budget": 1.0, **parameters}
    return PeerCourse(bench, baseline_of(bench), Parameters(method=method, **settings)).run(lambda _: None)


def losses(bench: Bench) -> tuple[float, float]:
    return bench.score(bench.forget).loss, bench.score(bench.retain).loss


@pytest.mark.parametrize("method", FORGETTING)
def test_forgetting_methods_raise_the_forget_loss(method: str) -> None:
    bench = trained()
    before = losses(bench)
    result = run(bench, method, retain_weight=0.5)
    assert losses(bench)[0] > before[0]
    assert result.stop_reason == "max_steps"
    assert len(result.rows) == 12


def test_fine_tuning_lowers_the_retain_loss() -> None:
    bench = trained()
    before = losses(bench)
    result = run(bench, "fine_tune")
    assert losses(bench)[1] < before[1]
    assert result.rows[-1]["retain_loss_after"] < result.rows[0]["retain_loss"]  # type: ignore[operator]


@pytest.mark.parametrize("method", ["grad_diff", "gru", "pcgrad", "npo", "simnpo", "kl"])
def test_what_minds_the_retain_set_harms_it_less_than_plain_ascent(method: str) -> None:
    plain, minding = trained(), trained()
    run(plain, "gradient_ascent")
    run(minding, method)
    assert losses(minding)[1] < losses(plain)[1]


def test_scrub_lowers_what_it_minimises() -> None:
    """It asks for distance, not for a direction: the first retain step decides whether the forget loss rises."""
    bench = trained()
    teacher = Teacher(bench.model.model, bench.family)

    @torch.no_grad()
    def value() -> float:
        kept, left = (bench.batch(list(examples)) for examples in (bench.retain, bench.forget))
        near, far = (
            float(bench.minibatch_mean(side, lambda part: teacher.divergence(bench.model.model, part)))
            for side in (kept, left)
        )
        return 0.5 * near + losses(bench)[1] - far

    before = value()
    run(bench, "scrub")
    assert value() < before


@pytest.mark.parametrize("method", sorted(set(PEERS) - {"retrain"}))
def test_two_runs_are_bitwise_equal(method: str) -> None:
    first, second = trained(), trained()
    run(first, method)
    run(second, method)
    assert torch.equal(weight_of(first), weight_of(second))


def test_a_row_has_the_ledgers_columns_and_no_promise() -> None:
    rows = run(trained(), "grad_diff").rows
    assert [tuple(row) for row in rows] == [COLUMNS] * 12
    for last, row in pairwise(rows):
        assert row["forget_loss"] == last["forget_loss_after"]
    assert {"promised_forget_gain", "quota", "kappa", "verdict", "direct"} <= {
        key for key, value in rows[0].items() if value is None
    }
    assert rows[0]["accepted"] is True
    assert float(rows[0]["realised_forget_gain"] or 0) > 0
    assert float(rows[0]["update_norm"] or 0) == pytest.approx(0.02 * 2, rel=0.01)  # Adam's first step, four weights


def test_it_stops_at_the_same_target_as_hamu() -> None:
    bench = trained(holdout=STRANGERS)
    result = run(bench, "gradient_ascent", max_steps=200, holdout_accuracy_budget=1.0, membership_auc_tolerance=0.5)
    assert result.stop_reason == "target_reached"
    assert len(result.rows) < 200
    assert losses(bench)[0] >= 0.95 * float(result.rows[-1]["yardstick"] or 0)


def test_weights_over_the_retain_budget_are_put_back() -> None:
    bench = trained()
    before = weight_of(bench).clone()
    result = run(bench, "gradient_ascent", learning_rate=1.0, max_steps=100, retain_accuracy_budget=0.0)
    assert result.stop_reason == "retain_budget_exhausted"
    assert result.rolled_back
    assert len(result.rows) == 50  # seen at the tenth step, and then forty to bring it back
    assert torch.equal(weight_of(bench), before)


def test_what_is_not_finite_stops_the_run_and_is_put_back() -> None:
    bench = trained()
    before = weight_of(bench).clone()
    result = run(bench, "gradient_ascent", learning_rate=1e37, max_grad_norm=1e5)
    assert result.stop_reason == "non_finite"
    assert result.rolled_back
    assert torch.equal(weight_of(bench), before)
