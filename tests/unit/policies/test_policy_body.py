"""What a policy may say, and what it says when it says nothing."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.limits import Limits
from core.platform.errors import InvalidInput
from core.policies.body import Policy, as_json, from_json
from core.unlearning.job import METHODS, Parameters


def test_nothing_said_is_the_default() -> None:
    assert from_json({}) == from_json({"parameters": {}}) == Policy()


def test_stored_and_read_again_it_is_the_same() -> None:
    policy = Policy(
        Parameters(max_steps=7, quota_ratio=0.25, quota="uniform", block="layer", stop_rule="none", seed=3),
        batch_window_s=60.5,
        production_follows=True,
        needs_review_on=(),
        limits=Limits.from_json({"gap_closed": {"at_least": 0.6, "severity": "important"}}),
        publish_on=("passed",),
        review_on=("passed_with_warnings",),
        fail_on=("failed", "inconclusive"),
        retention_days=0,
        recheck_days=0,
    )
    assert from_json(as_json(policy)) == policy


def test_every_setting_of_a_run_has_a_rule() -> None:
    for one in dataclasses.fields(Parameters):
        with pytest.raises(InvalidInput) as refused:
            from_json({"parameters": {one.name: None}})
        assert [problem.pointer for problem in refused.value.problems] == [f"/parameters/{one.name}"]


def test_only_hamu_can_be_divided_among_devices() -> None:
    assert from_json({"parameters": {"devices": "all"}}).parameters.devices == "all"
    assert from_json({"parameters": {"devices": "one", "method": "npo"}}).parameters.method == "npo"
    with pytest.raises(InvalidInput) as refused:
        from_json({"parameters": {"devices": "all", "method": "npo"}})
    assert [problem.pointer for problem in refused.value.problems] == ["/parameters/devices"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_chosen(method: str) -> None:
    assert from_json({"parameters": {"method": method}}).parameters.method == method


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "magic"),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("quota_ratio", 0),
        ("quota_ratio", 1),
        ("quota_ratio", True),
        ("quota_ratio", "0.5"),
        ("quota", "best"),
        ("block", "row"),
        ("stop_rule", "never"),
        ("max_steps", 0),
        ("max_steps", 1.5),
        ("max_steps", 100_001),
        ("batch_size", -1),
        ("micro_batch_size", -1),
        ("max_grad_norm", 0),
        ("forget_target_ratio", 0),
        ("retain_accuracy_budget", -0.01),
        ("retain_accuracy_budget", 1.01),
        ("max_evaluation_records", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("epochs", 0),
        ("weight_decay", -0.1),
        ("retain_weight", -1),
        ("npo_beta", 0),
        ("simnpo_beta", 0),
        ("simnpo_gamma", -1),
        ("scrub_alpha", -1),
        ("scrub_gamma", -1),
        ("panel", "half"),
        ("generated_records", -1),
        ("reference", "original"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json({"parameters": {name: value}})
    assert [problem.pointer for problem in refused.value.problems] == [f"/parameters/{name}"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json({"a/b": 1, "retention_days": "x", "parameters": {"~": 1, "seed": -1}})
    pointers = {problem.pointer for problem in refused.value.problems}
    assert pointers == {"/a~1b", "/retention_days", "/parameters/~0", "/parameters/seed"}


@pytest.mark.parametrize(
    ("raw", "pointers"),
    [
        ({"limits": {"gap_closed": {"at_least": "x"}, "nope": {}}}, ["/limits/gap_closed/at_least", "/limits/nope"]),
        ({"limits": 3}, ["/limits"]),
        ({"limits": {"displacement": {"severity": "off"}}}, ["/limits/displacement"]),
        ({"publish_on": ["failed"], "review_on": ["passed", "passed_with_warnings", "inconclusive"]}, ["/publish_on"]),
        ({"publish_on": ["passed"]}, ["/publish_on"]),  # passed_with_warnings is nowhere
        ({"fail_on": ["failed"]}, ["/fail_on"]),  # and in review_on by default
        ({"review_on": ["inconclusive", "inconclusive", "failed"]}, ["/review_on"]),
        ({"recheck_days": -1}, ["/recheck_days"]),
    ],
)
def test_limits_and_rulings_that_cannot_be_meant_are_pointed_at(raw: dict[str, Any], pointers: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json(raw)
    assert [problem.pointer for problem in refused.value.problems] == pointers


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([one.name for one in dataclasses.fields(Policy)]), _JSON))
def test_whatever_comes_is_a_policy_or_refused(raw: dict[str, Any]) -> None:
    try:
        policy = from_json(raw)
    except InvalidInput:
        return
    assert from_json(as_json(policy)) == policy


def test_targets_are_told_to_the_run_and_shown_again() -> None:
    policy = from_json({"targets": {"membership_auc": 0.1, "forget_loss_ratio": 0.9, "holdout_accuracy_drop": 1}})
    parameters = policy.parameters
    assert (parameters.membership_auc_tolerance, parameters.forget_target_ratio) == (0.1, 0.9)
    assert (parameters.holdout_accuracy_budget, parameters.retain_accuracy_budget) == (1, 0.01)
    assert as_json(policy)["targets"] == {
        "membership_auc": 0.1,
        "forget_loss_ratio": 0.9,
        "retain_accuracy_drop": 0.01,
        "holdout_accuracy_drop": 1,
    }
    assert from_json(as_json(policy)) == policy


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"targets": 3}, "/targets", "wrong_type"),
        ({"targets": {"fame": 1}}, "/targets/fame", "unknown_field"),
        ({"targets": {"membership_auc": 0.6}}, "/targets/membership_auc", "out_of_range"),
        (
            {"targets": {"forget_loss_ratio": 0.9}, "parameters": {"forget_target_ratio": 0.8}},
            "/targets/forget_loss_ratio",
            "said_twice",
        ),
    ],
)
def test_a_target_that_makes_no_sense_is_named(body: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json(body)
    assert [(problem.pointer, problem.code) for problem in refused.value.problems] == [(pointer, code)]
