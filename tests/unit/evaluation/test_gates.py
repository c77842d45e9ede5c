"""A gate passes only with its whole interval inside the margin, and can fail, and can say that it cannot tell."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.estimates import Estimate
from core.evaluation.gates import Gate, judge, status
from core.evaluation.limits import GATES, Limit, Limits

ALWAYS = [name for name, limit in GATES.items() if limit.always]
numbers = st.floats(-10, 10, allow_nan=False)
intervals = st.tuples(numbers, numbers).map(sorted)
margins = st.tuples(st.none() | numbers, st.none() | numbers).filter(
    lambda edges: edges != (None, None) and (None in edges or edges[0] <= edges[1])
)


def margin(edges: tuple[float | None, float | None]) -> Limit:
    return Limit("G1", at_least=edges[0], at_most=edges[1])


def gate(name: str, estimate: Estimate, *, before: Estimate | None = None, limits: Mapping[str, Any] = {}) -> Gate:
    no_op = {} if before is None else {name: before}
    (found,) = [one for one in judge({name: estimate}, no_op, Limits.from_json(limits)) if one.name == name]
    return found


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.8, 1.2, "passed"),  # the margin is closed
        (0.79, 1.0, "undecided"),
        (1.0, 1.21, "undecided"),
        (0.5, 1.5, "undecided"),
        (0.1, 0.79, "failed"),
        (1.21, 9.0, "failed"),
        (math.inf, math.inf, "failed"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_an_interval_is_judged_as_a_whole(low: float, high: float, says: str) -> None:
    assert gate("forget_loss_ratio", Estimate((low + high) / 2, low, high)).status == says


@given(intervals, margins, st.floats(0, 5), st.floats(0, 5))
def test_widening_a_margin_never_fails_what_passed(
    interval: list[float], edges: tuple[float | None, float | None], down: float, up: float
) -> None:
    wider = tuple(edge if edge is None else edge + by for edge, by in zip(edges, (-down, up), strict=True))
    if status(*interval, margin(edges)) == "passed":
        assert status(*interval, margin(wider)) == "passed"  # type: ignore[arg-type]
    if status(*interval, margin(wider)) == "failed":  # type: ignore[arg-type]
        assert status(*interval, margin(edges)) == "failed"


@given(intervals, margins, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_more_records_settle_what_was_open_and_never_turn_it_round(
    interval: list[float], edges: tuple[float | None, float | None], inside: tuple[float, float]
) -> None:
    low, high = interval
    narrower = sorted(min(max(low + share * (high - low), low), high) for share in inside)
    before = status(low, high, margin(edges))
    assert status(*narrower, margin(edges)) == before or before == "undecided"


@given(numbers, margins)
def test_an_exact_number_is_always_decided(value: float, edges: tuple[float | None, float | None]) -> None:
    low, high = edges
    inside = (low is None or low <= value) and (high is None or value <= high)
    assert status(value, value, margin(edges)) == ("passed" if inside else "failed")


def test_a_measurement_that_does_not_apply_is_no_gate_and_one_that_every_run_needs_is_undecided() -> None:
    assert [(one.name, one.status, one.measured) for one in judge({}, {}, Limits())] == [
        (name, "undecided", False) for name in ALWAYS
    ]


def test_a_gate_that_is_off_and_a_number_that_is_none_are_not_judged() -> None:
    limits = Limits.from_json({"int8_recovery": {"severity": "off"}})
    found = judge({"int8_recovery": Estimate.exact(0.9), "kl_to_original": Estimate.exact(0.1)}, {}, limits)
    assert {one.name for one in found} == set(ALWAYS)


def test_the_unchanged_weights_are_judged_beside() -> None:
    same = gate("membership_auc_loss", Estimate(0.5, 0.46, 0.54), before=Estimate(0.5, 0.46, 0.54))
    assert (same.status, same.no_op, same.no_op_status, same.informative) == ("passed", 0.5, "passed", False)
    known = gate("membership_auc_loss", Estimate(0.5, 0.46, 0.54), before=Estimate(0.9, 0.8, 1.0))
    assert (known.no_op_status, known.informative) == ("failed", True)
    kept = gate("retain_accuracy_drop", Estimate.exact(0.0), before=Estimate.exact(0.0))
    assert kept.informative  # utility should not change, so it is no fault that it did not


@pytest.mark.parametrize(("value", "edge"), [(0.1, 0.8), (0.99, 0.8), (1.01, 1.2), (7.0, 1.2), (math.nan, 1.2)])
def test_the_limit_is_the_edge_nearest_to_the_value(value: float, edge: float) -> None:
    assert gate("forget_loss_ratio", Estimate.exact(value)).limit == edge
    assert gate("displacement", Estimate.exact(value)).limit == 1e-12


def test_a_gate_is_plain_json_and_comes_back() -> None:
    found = gate("forget_loss_ratio", Estimate(0.95, 0.9, 1.1), before=Estimate.exact(0.25))
    assert found.as_dict() == {
        "name": "forget_loss_ratio",
        "group": "G1",
        "limit": 0.8,
        "value": 0.95,
        "passed": True,
        "low": 0.9,
        "high": 1.1,
        "at_least": 0.8,
        "at_most": 1.2,
        "status": "passed",
        "severity": "important",
        "no_op": 0.25,
        "no_op_status": "failed",
    }
    assert Gate.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    alone = gate("forget_loss_ratio", Estimate.unbounded(0.95))
    assert Gate.from_dict(json.loads(json.dumps(alone.as_dict()))) == alone
    unknown = gate("forget_loss_ratio", Estimate.exact(math.nan)).as_dict()
    assert (unknown["value"], unknown["low"], unknown["passed"]) == (None, None, False)
    assert not Gate.from_dict(unknown).measured
