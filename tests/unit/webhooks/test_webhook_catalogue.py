"""Event types and the patterns by which endpoints ask for them."""

import re

import jsonschema
import pytest

from core.platform.errors import InvalidInput
from core.webhooks.catalogue import CATALOGUE, EventType, check_patterns, event_type, matches


def test_types_are_unique_and_well_formed() -> None:
    types = [event.type for event in CATALOGUE]
    assert len(set(types)) == len(types)
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", name) for name in types)
    assert all(event_type(name) is not None for name in types)


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.type)
def test_the_example_is_what_the_schema_says(event: EventType) -> None:
    jsonschema.validate(event.message_example(), event.message_schema())


@pytest.mark.parametrize(
    ("patterns", "name", "wanted"),
    [
        ([], "run.failed", True),
        (["*"], "run.failed", True),
        (["run.failed"], "run.failed", True),
        (["run.*"], "run.failed", True),
        (["deletion_request.*", "run.failed"], "run.failed", True),
        (["run.succeeded"], "run.failed", False),
        (["run"], "run.failed", False),
        (["run.fail"], "run.failed", False),
        (["deletion_request.*"], "run.failed", False),
    ],
)
def test_patterns(patterns: list[str], name: str, wanted: bool) -> None:
    assert matches(patterns, name) is wanted


def test_a_pattern_that_can_match_nothing_is_pointed_at() -> None:
    assert check_patterns(["run.*", "ping", "run.*", "*"]) == ("run.*", "ping", "*")
    with pytest.raises(InvalidInput) as refused:
        check_patterns(["run.*", "run.flew", "r*", "", ".*"])
    assert [problem.pointer for problem in refused.value.problems] == [
        "/events/1",
        "/events/2",
        "/events/3",
        "/events/4",
    ]
