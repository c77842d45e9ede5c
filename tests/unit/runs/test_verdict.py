"""What becomes of a finished job."""

from dataclasses import replace

import pytest

from core.runs.verdict import rule, rule_assessment
from core.unlearning.job import Failure, Outcome, StoredFile

FILES = (StoredFile("model.safetensors", "file:///x/model.safetensors", 1, "0" * 64),)
PASSED = {"name": "retain_accuracy_drop", "limit": 0.02, "value": 0.0, "passed": True}
MISSED = {"name": "forget_reached_target", "limit": 0.95, "value": 0.1, "passed": False}
GOOD = Outcome(stop_reason="target_reached", gates=(PASSED,), staged=FILES)
REVIEWED = ("infeasible", "retain_budget_exhausted")


def ruling(outcome: Outcome, *, cancel_requested: bool = False) -> str:
    return rule(outcome, needs_review_on=REVIEWED, cancel_requested=cancel_requested).ruling


def test_a_good_result_is_published() -> None:
    assert ruling(GOOD) == "publish"


def test_a_wish_to_cancel_wins_over_any_result() -> None:
    assert ruling(GOOD, cancel_requested=True) == "cancel"
    assert ruling(Outcome(failure=Failure("x", "y", retryable=True)), cancel_requested=True) == "cancel"


def test_a_failed_gate_never_publishes_by_itself() -> None:
    verdict = rule(replace(GOOD, gates=(PASSED, MISSED)), needs_review_on=(), cancel_requested=False)
    assert (verdict.ruling, verdict.why) == ("review", "gate_failed:forget_reached_target")


@pytest.mark.parametrize("reason", REVIEWED)
def test_the_policy_sends_stop_reasons_to_a_person_even_without_weights(reason: str) -> None:
    assert ruling(replace(GOOD, stop_reason=reason)) == "review"  # type: ignore[arg-type]
    assert ruling(replace(GOOD, stop_reason=reason, staged=())) == "review"  # type: ignore[arg-type]


def test_another_stop_reason_with_all_gates_passed_is_published() -> None:
    assert ruling(replace(GOOD, stop_reason="max_steps")) == "publish"


def test_non_finite_losses_are_a_final_failure_in_words() -> None:
    verdict = rule(replace(GOOD, stop_reason="non_finite"), needs_review_on=(), cancel_requested=False)
    assert verdict.ruling == "fail"
    assert verdict.failure is not None
    assert not verdict.failure.retryable
    assert "learning rate" in verdict.failure.message


def test_nothing_to_publish_is_a_failure_and_no_version() -> None:
    assert ruling(replace(GOOD, staged=())) == "fail"


def test_a_missing_result_may_be_tried_again() -> None:
    verdict = rule(Outcome(), needs_review_on=(), cancel_requested=False)
    assert verdict.failure is not None
    assert verdict.failure.retryable


def test_a_failure_keeps_its_words() -> None:
    failure = Failure("bad_record", "Row 3 cannot be used.", retryable=False)
    assert rule(Outcome(failure=failure), needs_review_on=(), cancel_requested=False).failure is failure


def test_an_assessment_is_kept_whatever_it_says() -> None:
    hopeless = Outcome(hardness={"verdict": "irreconcilable"})
    assert rule_assessment(hopeless, cancel_requested=False).ruling == "keep"
    assert rule_assessment(hopeless, cancel_requested=True).ruling == "cancel"
    assert rule_assessment(Outcome(stop_reason="cancelled"), cancel_requested=False).ruling == "cancel"


def test_an_assessment_without_a_measurement_has_failed() -> None:
    empty = rule_assessment(Outcome(), cancel_requested=False)
    assert empty.failure is not None
    assert (empty.ruling, empty.failure.retryable) == ("fail", True)
    refused = Failure("bad_record", "Row 3 cannot be used.", retryable=False)
    assert rule_assessment(Outcome(failure=refused), cancel_requested=False).failure == refused
