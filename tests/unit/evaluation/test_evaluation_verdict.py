"""The word about a run: it can say no, it can say that it does not know, and it says why."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.estimates import Estimate
from core.evaluation.gates import judge
from core.evaluation.limits import GATES, Limits
from core.evaluation.verdict import Verdict, verdict

exact = Estimate.exact
GOOD = {
    "displacement": exact(0.3),
    "promise_kept": exact(3.1),
    "gap_closed": Estimate(0.97, 0.9, 1.02),
    "specificity": exact(0.0),
    "forget_loss_ratio": Estimate(1.0, 0.9, 1.1),
    "membership_auc_loss": Estimate(0.5, 0.47, 0.53),
    "membership_tpr_loss": Estimate(0.01, 0.0, 0.02),
    "retain_accuracy_drop": Estimate(0.001, 0.0, 0.004),
}
UNTOUCHED = {
    "displacement": exact(0.0),
    "gap_closed": exact(0.0),
    "specificity": exact(1.0),
    "forget_loss_ratio": Estimate(0.02, 0.01, 0.03),
    "membership_auc_loss": Estimate(0.95, 0.9, 1.0),
    "retain_accuracy_drop": exact(0.0),
}


def judged(
    changes: Mapping[str, Estimate] = {}, *, matched: bool = True, limits: Mapping[str, Any] = {}, without: str = ""
) -> Verdict:
    measured = {name: estimate for name, estimate in {**GOOD, **changes}.items() if name != without}
    return verdict(judge(measured, UNTOUCHED, Limits.from_json(limits)), matched=matched)


def test_a_run_inside_every_margin_passes_without_a_word() -> None:
    assert judged() == Verdict("passed", ())


def test_a_required_or_important_gate_outside_fails_the_run_and_says_so() -> None:
    assert judged({"gap_closed": Estimate(0.2, 0.1, 0.3)}) == Verdict(
        "failed", ("gap_closed is 0.2 (0.1 to 0.3), outside its margin of at least 0.5.",)
    )
    assert judged({"forget_loss_ratio": Estimate(1.6, 1.4, 1.8)}).verdict == "failed"  # over-forgotten


def test_reaching_a_holdout_whose_mean_lies_beyond_its_95th_percentile_is_no_failure() -> None:
    found = judged({"forget_loss_ratio": exact(1.05), "forget_loss_p95_ratio": exact(1.12)})
    assert found.verdict == "passed_with_warnings"


def test_a_required_gate_in_doubt_leaves_the_run_open() -> None:
    assert judged({"specificity": Estimate(0.001, 0.0, 0.01)}) == Verdict(
        "inconclusive", ("specificity is 0.001 (0 to 0.01): too few records to tell whether it is at most 0.001.",)
    )


def test_an_important_gate_in_doubt_and_an_advisory_one_outside_warn() -> None:
    found = judged({"membership_auc_loss": Estimate(0.5, 0.4, 0.6), "membership_tpr_loss": exact(0.2)})
    assert found.verdict == "passed_with_warnings"
    assert [sentence.partition(" ")[0] for sentence in found.reasons] == ["membership_auc_loss", "membership_tpr_loss"]


@pytest.mark.parametrize("name", [name for name, limit in GATES.items() if limit.always])
def test_what_every_run_needs_and_lacks_leaves_it_open(name: str) -> None:
    for found in (judged(without=name), judged({name: exact(math.nan)})):
        assert found == Verdict("inconclusive", (f"{name} could not be measured.",))


def test_a_number_from_one_record_decides_nothing() -> None:
    found = judged({"membership_auc_loss": Estimate.unbounded(0.5)})
    sentence = "membership_auc_loss is 0.5, give or take anything: too few records to tell whether it is 0.45 to 0.55."
    assert found == Verdict("passed_with_warnings", (sentence,))


def test_without_a_matched_holdout_nothing_passes_and_a_failure_is_still_one() -> None:
    assert judged(matched=False).verdict == "inconclusive"
    assert judged({"retain_accuracy_drop": exact(0.5)}, matched=False).verdict == "failed"


def test_no_gates_are_no_pass() -> None:
    assert verdict((), matched=True).verdict == "inconclusive"


@pytest.mark.parametrize("moved", [0.0, 1e-9])
def test_weights_that_were_not_changed_or_shaken_a_little_never_pass(moved: float) -> None:
    measured = {**UNTOUCHED, "displacement": exact(moved)}
    assert verdict(judge(measured, UNTOUCHED, Limits()), matched=True).verdict == "failed"


@given(
    st.fixed_dictionaries({}, optional={name: st.just({"severity": "off"}) for name in GATES if name != "displacement"})
)
def test_no_policy_lets_unchanged_weights_pass(limits: Mapping[str, Any]) -> None:
    found = verdict(judge(UNTOUCHED, UNTOUCHED, Limits.from_json(limits)), matched=True)
    assert found.verdict == "failed"


def test_a_gate_that_the_unchanged_weights_pass_is_named() -> None:
    same = {**UNTOUCHED, "membership_auc_loss": Estimate(0.5, 0.46, 0.54)}
    found = verdict(judge(GOOD, same, Limits()), matched=True)
    assert found == Verdict(
        "passed", ("membership_auc_loss was 0.45 to 0.55 before the run already, so it cannot tell before from after.",)
    )


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.sampled_from(["passed", "failed", "undecided"])))
def test_a_worse_gate_never_makes_a_better_word(statuses: Mapping[str, str]) -> None:
    order = ("passed", "passed_with_warnings", "inconclusive", "failed")
    values = {"failed": exact(-1e9), "undecided": exact(math.nan)}
    upper = {"specificity", "membership_tpr_loss", "retain_accuracy_drop"}
    changes = {
        name: exact(1e9) if wanted == "failed" and name in upper else values[wanted]
        for name, wanted in statuses.items()
        if wanted != "passed"
    }
    found = order.index(judged(changes).verdict)
    for name in changes:
        fewer = {other: estimate for other, estimate in changes.items() if other != name}
        assert order.index(judged(fewer).verdict) <= found
