"""What a run will take, guessed from its first gradients: expected numbers are derived by hand."""

from dataclasses import replace

import numpy as np
import pytest

from core.evaluation.scores import SetScores
from core.unlearning.dials import usable_quota
from core.unlearning.forecast import (
    CASES,
    Cost,
    First,
    Kept,
    Way,
    count_steps,
    forecast,
    repair_share,
    retain_change,
    seconds_of,
    way_to_target,
)
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters

COST = Cost(gradients_s=0.3, scoring_s=2.0, steps_between_looks=10)
KEPT = Kept(loss=0.4, forgotten=0.05, noise=0.0)
FIRSTS = [First(gain, None) for gain in (0.01, 0.02, 0.04)]


def scores(losses: list[float]) -> SetScores:
    one = np.ones(len(losses), dtype=np.int64)
    return SetScores(np.array(losses), one, one) if losses else SetScores.empty()


def baseline(forget: list[float], holdout: list[float]) -> Baseline:
    return Baseline(scores(forget), scores([0.1]), scores(holdout))


def test_a_run_first_grows_its_steps_and_then_takes_a_quarter_of_what_is_left() -> None:
    # promises 1, 2, then a quarter of 7, of 5.25: left 10, 9, 7, 5.25, 3.9375
    way = Way(start=10.0, end=4.0, loss=1.0)
    assert count_steps(way, 1.0, realised=1.0, growth=2.0, most=100) == 4
    assert count_steps(replace(way, end=5.25), 1.0, realised=1.0, growth=2.0, most=100) == 3
    # half of each promise: left 10, 9.5, 8.5, 7.4375 (a quarter of 8.5 is 2.125), 6.508, 5.694, 4.982, 4.36, 3.81
    assert count_steps(way, 1.0, realised=0.5, growth=2.0, most=100) == 8


def test_a_way_that_is_too_long_has_no_count() -> None:
    assert count_steps(Way(10.0, 9.375, 0.6), 0.125, realised=1.0, growth=1.0, most=5) == 5
    assert count_steps(Way(10.0, 9.25, 0.6), 0.125, realised=1.0, growth=1.0, most=5) is None
    assert count_steps(Way(10.0, 1.0, 0.6), 0.0, realised=1.0, growth=1.6, most=50) is None
    assert count_steps(Way(3.0, 3.0, 0.0), 0.0, realised=1.0, growth=1.6, most=50) == 0


def test_seconds_are_those_of_gradients_trials_and_looks() -> None:
    assert seconds_of(0, COST) == pytest.approx(6.0)  # scored before, looked at once, scored after
    assert seconds_of(25, COST) == pytest.approx((2 + 3) * 2.0 + 25 * 0.4)


def test_the_way_is_measured_in_the_objective_with_every_record_at_its_share_of_the_target() -> None:
    # One record of loss ln 2 (surprise 0), holdout ln 5 (p = 1/5); the target is 1.05 of that, and what lies
    # beyond it weighs a fifth. The objective is highest where e^u = 5, u the way beyond the target over 0.2 nats.
    found = way_to_target(baseline([np.log(2)], [np.log(5)]), Parameters(forget_target_ratio=0.95))
    assert found is not None

    def left(loss: float) -> float:
        def odds(value: float) -> float:
            return float(np.log(np.expm1(value + 1e-5)))

        def cost(u: float) -> float:
            return 0.2 * float(np.log1p(np.exp(-u)) + 0.2 * np.log1p(np.exp(u)))

        return cost((odds(loss) - odds(1.05 * np.log(5))) / 0.2) - cost(np.log(5))

    assert found.start == pytest.approx(left(np.log(2)), rel=1e-5)
    assert found.end == pytest.approx(left(0.95 * np.log(5)), rel=1e-5)
    assert found.start > found.end > 0


def test_without_holdout_there_is_no_way_and_at_the_target_it_is_behind_us() -> None:
    assert way_to_target(baseline([0.1], []), Parameters()) is None
    there = way_to_target(baseline([2.0], [2.0]), Parameters())
    assert there is not None
    assert (there.start == there.end, there.loss) == (True, 0.0)


def test_a_forget_set_whose_mean_is_there_but_not_its_members_has_a_way_to_go() -> None:
    known = [0.01] * 19 + [40.0]  # mean 2.01 over a holdout of 2: the mean is carried by one record
    found = way_to_target(baseline(known, [2.0] * 20), Parameters())
    assert found is not None
    assert found.loss == 0.0
    assert found.start > found.end


def test_the_forecast_spreads_over_minibatches_and_cases() -> None:
    way = Way(2.0, 0.5, 0.6)
    block = forecast(FIRSTS, way, COST, Parameters(max_steps=200), kept=KEPT)
    assert (block["why"], block["gain_wanted"], block["gain_of_first_step"]) == (None, 1.5, 0.02)
    for name, gain in (("low", 0.04), ("expected", 0.02), ("high", 0.01)):
        case = CASES[name]
        counted = count_steps(way, gain, realised=case.realised, growth=case.growth, most=200)
        assert block["steps"][name] == (counted or 0) * (3 if name == "high" else 1)
    assert block["steps"]["low"] < block["steps"]["expected"] < block["steps"]["high"]
    assert block["seconds"]["expected"] == pytest.approx(seconds_of(block["steps"]["expected"], COST))
    # 0.05 of 0.4 + 0.6
    assert block["retain_loss_change"] == pytest.approx({"low": -0.05, "expected": 0.03, "high": 0.2})
    assert block["within_max_steps"] is True


def test_noisy_retain_minibatches_look_harmed_and_make_a_run_longer() -> None:
    way = Way(2.0, 0.5, 0.6)  # a twentieth of it, 0.03, may drift
    noisy = replace(KEPT, noise=0.03)
    assert repair_share(way, noisy) == pytest.approx(0.158655, abs=1e-6)  # beyond one standard error
    assert repair_share(way, KEPT) == 0.0
    assert repair_share(Way(2.0, 0.5, 0.0), noisy) == 0.5
    calm, longer = (forecast(FIRSTS, way, COST, Parameters(), kept=kept) for kept in (KEPT, noisy))
    assert longer["steps"]["expected"] == round(1.158655 * calm["steps"]["expected"])
    assert (longer["steps"]["low"], longer["steps"]["high"]) == (calm["steps"]["low"], calm["steps"]["high"])
    assert longer["seconds"]["expected"] > calm["seconds"]["expected"]
    most = calm["steps"]["expected"]
    assert forecast(FIRSTS, way, COST, Parameters(max_steps=most), kept=KEPT)["within_max_steps"] is True
    assert forecast(FIRSTS, way, COST, Parameters(max_steps=most), kept=noisy)["within_max_steps"] is False


def test_the_retain_loss_cannot_fall_below_nothing_and_stays_when_nothing_is_to_be_done() -> None:
    found = retain_change(Way(2.0, 0.5, 0.6), Kept(loss=0.01, forgotten=0.05, noise=0.0))
    assert found == pytest.approx({"low": -0.01, "expected": 0.0183, "high": 0.122})  # 0.05 of 0.61 is 0.0305
    assert retain_change(Way(2.0, 2.0, 0.0), KEPT) == {"low": 0.0, "expected": 0.0, "high": 0.0}


def test_the_policys_limit_caps_the_steps_and_is_told() -> None:
    block = forecast(FIRSTS, Way(2.0, 0.5, 0.6), COST, Parameters(max_steps=3), kept=KEPT)
    assert block["within_max_steps"] is False
    assert block["steps"] == {"low": 3, "expected": 3, "high": 3}


def test_what_cannot_be_predicted_is_not() -> None:
    nowhere = forecast(FIRSTS, None, COST, Parameters(), kept=KEPT)
    stopped = [replace(first, stopped="collateral_forgetting_unavoidable") for first in FIRSTS]
    stuck = forecast(stopped, Way(2.0, 0.5, 0.6), COST, Parameters(), kept=KEPT)
    assert (nowhere["why"], stuck["why"]) == ("no_holdout", "collateral_forgetting_unavoidable")
    for block in (nowhere, stuck):
        assert block["steps"] is block["seconds"] is block["retain_loss_change"] is None
    assert forecast(stopped, Way(2.0, 2.0, 0.0), COST, Parameters(), kept=KEPT)["steps"] == {
        "low": 0,
        "expected": 0,
        "high": 0,
    }


@pytest.mark.parametrize(
    ("wanted", "free", "used"), [(0.5, 1.0, 0.5), (0.5, 0.2, 0.18), (0.5, 0.0, 0.05), (0.02, 0, 0.02)]
)
def test_the_quota_stays_below_what_is_free_down_to_the_least(wanted: float, free: float, used: float) -> None:
    assert usable_quota(wanted, capacity=2.0, free_capacity=2.0 * free) == pytest.approx(used)


def test_a_model_without_capacity_is_asked_for_the_least() -> None:
    assert usable_quota(0.5, capacity=0.0, free_capacity=0.0) == 0.05
