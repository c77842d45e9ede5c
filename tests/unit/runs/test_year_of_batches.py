"""A simulated year keeps every deadline, whatever the policy and however slow the runs."""

import random
from datetime import timedelta

import pytest

from benchmarks.batching import POLICIES, Cost, arrivals, fitted, simulate

COST = Cost(fixed=10, person=1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("lasts", [None, timedelta(days=3)])
def test_no_deadline_is_missed(policy: str, lasts: timedelta | None) -> None:
    asked = list(arrivals(0.5, random.Random(1)))
    year = simulate(asked, POLICIES[policy], Cost(10, 1, lasts))
    assert (year.requests, year.missed) == (len(asked), 0)


def test_waiting_saves_what_runs_share() -> None:
    asked = list(arrivals(1, random.Random(1)))
    alone, weekly = (simulate(asked, POLICIES[name], COST) for name in ("at once", "window 7 days"))
    assert alone.seconds == 10 * alone.runs + len(asked)
    assert weekly.seconds == 10 * weekly.runs + len(asked)
    assert weekly.runs < len(asked) / 5


def test_the_cost_model_goes_through_the_measurements() -> None:
    cost = fitted([1, 2, 4], [3.5, 4.0, 5.0])
    assert (cost.fixed, cost.person) == pytest.approx((3.0, 0.5))
