"""What a run's next step is: how far it goes at least, and when it repairs, which is without end only while answers are
lost, and then over more of the retain set."""

from typing import Any

import pytest
import torch

from core.unlearning import loop
from core.unlearning.guard import Guard
from core.unlearning.job import Parameters
from core.unlearning.loop import Unlearning
from tests.unit.unlearning.peers.tiny import Point, baseline_of, bench_of, weight_of

FORGET: list[Point] = [(2, 0.5, 0), (-1.5, -0.5, 1)]
PARAMETERS: dict[str, Any] = {"learning_rate": 1e-3, "max_steps": 8, "retain_accuracy_budget": 1}
RETAIN: list[Point] = [(0.1, 1, 0), (0.2, 1, 0), (-0.1, -1, 1), (0.1, -1, 1)]


def course(**parameters: float) -> Unlearning:
    bench = bench_of(forget=FORGET, retain=RETAIN, holdout=[(0.1, 0, 0), (0, 0.1, 1)])
    weight_of(bench).copy_(torch.tensor([[0.8, 0.8], [-0.8, -0.8]]))
    return Unlearning(bench, baseline_of(bench), Parameters(**{**PARAMETERS, **parameters}))


def test_while_no_answer_is_lost_every_other_step_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETAIN_DRIFT", -100.0)  # whatever the retain loss is, it is too high
    rows = course().run(lambda _: None).rows
    assert [row["kind"] for row in rows] == ["repair", "forget"] * 4


def test_while_the_budget_is_exceeded_every_step_repairs_over_four_minibatches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = course()
    assert {row["kind"] for row in usual.run(lambda _: None).rows} == {"forget"}
    assert usual.state().facts["minibatches"] == 8
    monkeypatch.setattr(Guard, "look", lambda *_: None)
    harmed = course()
    monkeypatch.setattr(Guard, "unharmed", property(lambda _: False))
    harmed._guard.within_budget = False
    assert {row["kind"] for row in harmed.run(lambda _: None).rows} == {"repair"}
    assert harmed.state().facts["minibatches"] == 4 * 8


def test_a_first_rate_at_which_no_gain_could_be_seen_is_lifted() -> None:
    far, near = (course(learning_rate=rate, max_steps=1).run(lambda _: None).rows[0] for rate in (1e-12, 1e-3))
    assert far["accepted"]
    assert 1e-7 < far["promised_forget_gain"] < near["promised_forget_gain"]
