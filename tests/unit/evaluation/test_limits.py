"""What a policy may say about gates, and what it may not."""

import json
from typing import Any

import pytest

from core.evaluation.limits import GATES, BadLimits, Limit, Limits


def test_without_overrides_the_table_holds() -> None:
    assert Limits().of("membership_auc_loss") == Limit("G3", at_least=0.45, at_most=0.55)
    assert all(Limits.from_json({}).of(name) is not None for name in GATES)


def test_an_override_changes_what_it_names_and_survives_json() -> None:
    raw = {"membership_auc_loss": {"at_most": 0.6}, "forget_loss_ratio": {"at_most": None, "severity": "advisory"}}
    limits = Limits.from_json(raw)
    assert limits.of("membership_auc_loss") == Limit("G3", at_least=0.45, at_most=0.6)
    assert limits.of("forget_loss_ratio") == Limit("G1", at_least=0.8, severity="advisory", always=True)
    assert Limits.from_json(json.loads(json.dumps(limits.as_json()))) == limits
    assert limits.as_json() == raw


def test_a_runs_own_budget_is_a_default_and_not_an_override() -> None:
    assert Limits().with_default("retain_accuracy_drop", at_most=0.03).of("retain_accuracy_drop").at_most == 0.03
    strict = Limits.from_json({"retain_accuracy_drop": {"at_most": 0.005}})
    assert strict.with_default("retain_accuracy_drop", at_most=0.03).of("retain_accuracy_drop").at_most == 0.005


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ([], ""),
        ({"no_such": {}}, "/no_such"),
        ({"a/b": {}}, "/a~1b"),
        ({"gap_closed": 0.4}, "/gap_closed"),
        ({"gap_closed": {"atleast": 0.4}}, "/gap_closed/atleast"),
        ({"gap_closed": {"at_least": "much"}}, "/gap_closed/at_least"),
        ({"gap_closed": {"at_least": True}}, "/gap_closed/at_least"),
        ({"gap_closed": {"at_least": float("nan")}}, "/gap_closed/at_least"),
        ({"gap_closed": {"at_least": None}}, "/gap_closed"),
        ({"gap_closed": {"severity": "grave"}}, "/gap_closed/severity"),
        ({"gap_closed": {"severity": ["off"]}}, "/gap_closed/severity"),
        ({"membership_auc_loss": {"at_least": 0.7}}, "/membership_auc_loss"),
        ({"displacement": {"severity": "off"}}, "/displacement"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(raw: Any, pointer: str) -> None:
    with pytest.raises(BadLimits) as refused:
        Limits.from_json(raw)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]
