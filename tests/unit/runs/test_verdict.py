"""What becomes of a finished job."""

from dataclasses import replace

import pytest

from core.policies.body import Policy
from core.runs.verdict import Decision, rule, rule_assessment
from core.unlearning.job import Failure, Outcome, StoredFile

FILES = (StoredFile("model.safetensors", "file:///x/model.safetensors", 1, "0" * 64),)
MOVED = {"name": "displacement", "value": 0.3, "status": "passed"}
UNMOVED = {"name": "displacement", "value": 0.0, "status": "failed"}
GOOD = Outcome(stop_reason="target_reached", gates=(MOVED,), verdict="passed", staged=FILES)
REVIEWED = ("infeasible", "retain_budget_exhausted")
POLICY = Policy(needs_review_on=REVIEWED)


def decided(outcome: Outcome, **fields: tuple[str, ...]) -> Decision:
    return rule(outcome, policy=replace(POLICY, **fields), cancel_requested=False)  # type: ignore[arg-type]


def ruling(outcome: Outcome, *, cancel_requested: bool = False) -> str:
    return rule(outcome, policy=POLICY, cancel_requested=cancel_requested).ruling


def test_a_good_result_is_published() -> None:
    assert ruling(GOOD) == "publish"


def test_a_wish_to_cancel_wins_over_any_result() -> None:
    assert ruling(GOOD, cancel_requested=True) == "cancel"
    assert ruling(Outcome(failure=Failure("x", "y", retryable=True)), cancel_requested=True) == "cancel"


@pytest.mark.parametrize(
    ("verdict", "wanted"),
    [("passed", "publish"), ("passed_with_warnings", "publish"), ("inconclusive", "review"), ("failed", "review")],
)
def test_the_default_policy_publishes_what_passed_and_shows_the_rest_to_a_person(verdict: str, wanted: str) -> None:
    found = decided(replace(GOOD, verdict=verdict))
    assert found.ruling == wanted
    assert found.why == ("target_reached" if wanted == "publish" else f"verdict_{verdict}")


def test_a_policy_says_which_verdicts_fail_and_the_run_says_why() -> None:
    outcome = replace(GOOD, verdict="inconclusive", verdict_reasons=("There is no matched holdout.",))
    found = decided(outcome, publish_on=("passed",), review_on=("passed_with_warnings",), fail_on=("inconclusive",))
    assert found.failure is not None
    assert (found.why, found.failure.retryable) == ("verdict_inconclusive", False)
    assert found.failure.message == "The verdict is inconclusive. There is no matched holdout."


def test_a_result_without_a_verdict_is_never_published_by_itself() -> None:
    assert decided(replace(GOOD, verdict=None)).why == "verdict_inconclusive"


def test_weights_that_did_not_move_fail_whatever_else_is_said() -> None:
    found = decided(replace(GOOD, gates=(UNMOVED,)))
    assert (found.ruling, found.why) == ("fail", "nothing_changed")
    assert ruling(replace(GOOD, gates=(UNMOVED,), stop_reason="infeasible")) == "review"  # a person may reject it


@pytest.mark.parametrize("reason", REVIEWED)
def test_the_policy_sends_stop_reasons_to_a_person_even_without_weights(reason: str) -> None:
    found = decided(replace(GOOD, stop_reason=reason))  # type: ignore[arg-type]
    assert (found.ruling, found.why) == ("review", reason)  # even with the verdict passed
    assert ruling(replace(GOOD, stop_reason=reason, staged=())) == "review"  # type: ignore[arg-type]


def test_another_stop_reason_is_left_to_the_verdict() -> None:
    assert ruling(replace(GOOD, stop_reason="max_steps")) == "publish"


def test_non_finite_losses_are_a_final_failure_in_words() -> None:
    verdict = decided(replace(GOOD, stop_reason="non_finite"))
    assert verdict.ruling == "fail"
    assert verdict.failure is not None
    assert not verdict.failure.retryable
    assert "learning rate" in verdict.failure.message


def test_nothing_to_publish_is_a_failure_and_no_version() -> None:
    assert ruling(replace(GOOD, staged=())) == "fail"


def test_a_missing_result_may_be_tried_again() -> None:
    verdict = decided(Outcome())
    assert verdict.failure is not None
    assert verdict.failure.retryable


def test_a_failure_keeps_its_words() -> None:
    failure = Failure("bad_record", "Row 3 cannot be used.", retryable=False)
    assert decided(Outcome(failure=failure)).failure is failure


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
