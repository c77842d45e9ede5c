"""Which targets a model meets, and what is said of those it misses: values derived by hand."""

import math

import numpy as np
import pytest

from core.evaluation.scores import SetScores
from core.unlearning.job import Parameters
from core.unlearning.targets import Baseline, holdout_drop, membership, standings, unmet


def scores(losses: list[float], right: int = 0) -> SetScores:
    n = len(losses)
    return SetScores(np.array(losses, dtype=float), np.array([1] * right + [0] * (n - right)), np.ones(n, dtype=int))


def seen(forget: list[float], holdout: list[float], *, retain_right: int = 200, holdout_right: int = 2) -> Baseline:
    return Baseline(scores(forget), scores([0.1] * 200, retain_right), scores(holdout, holdout_right))


BEFORE = seen([0.1, 0.1], [1.0, 2.0, 3.0, 2.0])


def test_each_target_is_measured_against_the_matched_holdout() -> None:
    now = seen([1.5, 2.5], [1.0, 2.0, 3.0, 2.0], retain_right=199)
    found = {one.name: one for one in standings(BEFORE, now, Parameters())}
    assert found["forget_loss_ratio"].value == pytest.approx(1.0)  # mean 2 over a holdout of 2, before and now
    # 1.5 is lower than 3 of 4 strangers, 2.5 than one: (3 + 1) / 8
    assert found["membership_auc"].value == pytest.approx(0.5)
    assert found["retain_accuracy_drop"].value == pytest.approx(0.005)
    assert all(one.met for one in found.values())
    assert unmet(tuple(found.values()), "target_reached", []) == ()


def test_what_is_missed_says_by_how_much_and_why() -> None:
    now = seen([0.1, 2.5], [1.0, 2.0, 3.0, 2.0], retain_right=196)
    row = {"forget_capacity": 2.0, "free_capacity": 0.25}
    missed = unmet(standings(BEFORE, now, Parameters()), "collateral_forgetting_unavoidable", [row])
    assert [(one["name"], one["limit"]) for one in missed] == [
        ("forget_loss_ratio", 0.95),
        ("retain_accuracy_drop", 0.01),
    ]
    assert missed[0]["value"] == pytest.approx(0.65)
    assert missed[0]["reason"] == (
        "Forgetting further must cost the retain set. "
        "At the last step 12% of what a step can gain was free of retain cost."
    )


def test_few_records_may_be_as_far_from_the_middle_as_chance_puts_them() -> None:
    strangers = np.repeat([1.0, 2.0, 3.0, 4.0], 5)
    few, many = np.array([0.5, 2.5]), np.repeat([0.5, 2.5], 20)
    # (20 + 10) / 40 = 0.75. Two against twenty: 1.96 * sqrt(23 / 480) = 0.429; forty: 1.96 * sqrt(61 / 9600) = 0.156
    found = [membership(sample, strangers, Parameters()) for sample in (few, many)]
    assert [one.value for one in found] == [0.75, 0.75]
    assert [one.at_most for one in found] == pytest.approx([0.929, 0.656], abs=1e-3)
    assert [one.met for one in found] == [True, False]
    assert membership(many, strangers, Parameters(membership_auc_tolerance=0.25)).met


def test_over_forgetting_misses_the_membership_target_too() -> None:
    now = seen([9.0] * 600, [1.0, 2.0] * 300, holdout_right=300)
    before = seen([0.1] * 600, [1.0, 2.0] * 300, holdout_right=300)
    (missed,) = unmet(standings(before, now, Parameters()), "targets_unmet", [])
    assert (missed["name"], missed["value"], missed["limit"]) == ("membership_auc", 0.0, 0.45)
    assert "guessed worse than strangers" in missed["reason"]


def test_accuracy_is_that_of_all_that_are_held_out_and_the_rest_of_those_compared_with() -> None:
    """The first two strangers are compared with; the run turned the answer of one of them, of 200 in all."""
    everyone, compared = [[1.0, 3.0] + [9.0] * 198, [1.0, 4.0] + [9.0] * 198], np.array([0, 1])
    before, now = (
        Baseline(scores([loss]), scores([0.1] * 200, 200), scores(losses, right), compared)
        for loss, losses, right in ((0.1, everyone[0], 200), (2.0, everyone[1], 199))
    )
    found = {one.name: one for one in standings(before, now, Parameters())}
    assert found["forget_loss_ratio"].value == pytest.approx(2 / math.sqrt(2 * 2.5))
    assert found["membership_auc"].value == pytest.approx(0.5)
    assert found["holdout_accuracy_drop"].value == pytest.approx(1 / 200)
    assert found["holdout_accuracy_drop"].met


def test_one_answer_of_the_holdout_may_turn_by_chance() -> None:
    before = scores([1.0] * 20, 10)
    assert holdout_drop(before, scores([1.0] * 20, 9), Parameters()).met
    assert not holdout_drop(before, scores([1.0] * 20, 8), Parameters()).met
    assert holdout_drop(before, scores([1.0] * 20, 8), Parameters(holdout_accuracy_budget=0.1)).met


def test_without_a_holdout_three_targets_are_missed_for_that_reason() -> None:
    nothing = Baseline(scores([0.1]), scores([0.1] * 200, 200), SetScores.empty())
    missed = unmet(standings(nothing, nothing, Parameters()), "max_steps", [])
    assert [one["name"] for one in missed] == ["forget_loss_ratio", "membership_auc", "holdout_accuracy_drop"]
    assert {one["reason"] for one in missed} == {"There is no holdout to compare with."}
    assert {one["value"] for one in missed} == {None}
    assert all(math.isfinite(one["limit"]) for one in missed)
