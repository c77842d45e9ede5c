"""The page on evidence says what the code does."""

import json
import re
from pathlib import Path

import pytest

from core.evaluation.limits import GATES, Limit
from core.policies.body import from_json

PAGE = (Path(__file__).parents[3] / "docs" / "evidence.md").read_text()


@pytest.mark.parametrize(("name", "limit"), GATES.items())
def test_every_gate_stands_there_with_its_severity(name: str, limit: Limit) -> None:
    shown = re.sub(r"^(membership_(?:auc(?!_min_k_plus)|tpr))_.*", r"\1_…", name)
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{shown}`" in line.split("|")[2]]
    assert row.split("|")[5].strip() == limit.severity
    for edge in (limit.at_least, limit.at_most):
        assert edge is None or f"{edge:g}" in row.split("|")[4]


def test_the_example_policy_is_one() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    policy = from_json(json.loads(example))
    assert policy.limits.of("int4_recovery").severity == "required"
    assert policy.fail_on == ("failed",)
