"""When many small losses add up to a reason to train anew."""

import math

import pytest

from core.evaluation.drift import Drift, PastRun, RetrainRule, drift


def past(
    *, forget: int = 10, retain: int = 990, drop: float = 0.0, held: float = 0.0, holds: bool | None = None
) -> PastRun:
    return PastRun(forget, retain, drop, held, holds)


def test_a_model_that_was_never_unlearned_has_not_drifted() -> None:
    assert drift([]) == Drift(0, 0, 0.0, 0.0, 0.0, "keep", ())


def test_drops_add_up_run_by_run() -> None:
    two = drift([past(drop=0.01, held=0.004), past(retain=980, drop=0.015, held=math.nan)])
    assert (two.runs, two.erased_records, two.erased_share) == (2, 20, 0.02)
    assert (two.retain_accuracy_drop, two.holdout_accuracy_drop) == (pytest.approx(0.025), 0.004)
    assert two.advice == "keep"
    three = drift([past(drop=0.01), past(drop=0.015), past(drop=0.01)])
    assert three.reasons == ("Retain accuracy has fallen by 3.5% since training, more than 3.0%.",)


def test_a_run_that_gained_accuracy_gives_it_back() -> None:
    assert drift([past(held=0.04), past(held=-0.02)]).advice == "keep"
    assert drift([past(held=0.04)]).reasons[0].startswith("Holdout accuracy has fallen by 4.0%")


def test_so_much_erased_calls_for_training_anew() -> None:
    assert drift([past(forget=100, retain=900)]).advice == "keep"  # a tenth, and not more
    assert drift([past(forget=101, retain=899)]).advice == "retrain"
    assert drift([past(forget=101, retain=899)], RetrainRule(erased_share=0.5)).advice == "keep"


def test_only_the_last_look_at_earlier_deletions_counts() -> None:
    assert drift([past(holds=False), past(holds=True)]).advice == "keep"
    back = drift([past(holds=True), past(holds=False)])
    assert back.reasons == ("The last run brought back records that earlier runs had forgotten.",)
