"""What a policy may say, and what it says when it says nothing."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        retention_days=0,
    )
    assert from_json(as_json(policy)) == policy


def test_every_setting_of_a_run_has_a_rule() -> None:
    for one in dataclasses.fields(Parameters):
        with pytest.raises(InvalidInput) as refused:
            from_json({"parameters": {one.name: None}})
        assert [problem.pointer for problem in refused.value.problems] == [f"/parameters/{one.name}"]


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
        ("batch_size", 0),
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


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["parameters", "batch_window_s", "needs_review_on", "retention_days"]), _JSON))
def test_whatever_comes_is_a_policy_or_refused(raw: dict[str, Any]) -> None:
    try:
        policy = from_json(raw)
    except InvalidInput:
        return
    assert from_json(as_json(policy)) == policy
