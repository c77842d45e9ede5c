"""``Prefer`` and ``If-None-Match``: read where they can be, and passed over where not."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st

from api.waiting import LONGEST_S, Waiter, unchanged, waiter

REQUEST = Request({"type": "http", "app": FastAPI()})
REQUEST.app.state.database = None
HEADER_TEXT = st.text(st.characters(max_codepoint=255))
TAGS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=32).map('"{}"'.format)


def _waiter(prefer: str | None) -> Waiter:
    return asyncio.run(waiter(REQUEST, prefer))


def _applied(found: Waiter) -> dict[str, Any]:
    headers: Any = {}
    found.applied(headers)
    return headers


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["", "wait=", "wait =", "respond-async, wait", "handling=lenient; wait="]), HEADER_TEXT)
def test_any_preference_is_read_or_passed_over(beginning: str, text: str) -> None:
    found = _waiter(beginning + text)
    assert 0 <= found.seconds <= LONGEST_S
    assert _applied(found) in ({}, {"Preference-Applied": f"wait={found.seconds}"})


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 999_999),
    st.sampled_from(["wait={}", "WAIT={}", ' wait = "{}" ', "respond-async, wait={}", "return=minimal; foo;wait={}"]),
)
def test_seconds_are_found_among_other_preferences_and_bounded(seconds: int, spelling: str) -> None:
    assert _waiter(spelling.format(seconds)).seconds == min(seconds, LONGEST_S)


@pytest.mark.parametrize(
    "prefer",
    [None, "", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=1000000", "await=5", "wait=5s", "wait=\xb2"],
)
def test_what_is_no_number_of_seconds_counts_as_not_said(prefer: str | None) -> None:
    assert _waiter(prefer).otherwise(2.5).seconds == 3
    assert _applied(_waiter(prefer)) == {}


@settings(deadline=None)
@given(HEADER_TEXT, TAGS)
def test_any_list_of_tags_is_read_and_holds_none_that_it_does_not_name(text: str, tag: str) -> None:
    if tag not in text and "*" not in text:
        assert not unchanged(text, tag)


@settings(deadline=None)
@given(
    st.lists(TAGS, max_size=4),
    TAGS,
    st.sampled_from(["", "W/"]),
    st.sampled_from(["", "W/"]),
    st.sampled_from([",", " , "]),
)
def test_a_tag_is_found_beside_others_and_weak_or_not(
    others: list[str], tag: str, theirs: str, ours: str, between: str
) -> None:
    assert unchanged(between.join([*others, theirs + tag]), ours + tag)
    assert unchanged(between.join([*others, "*"]), ours + tag)
    assert not unchanged(between.join(others), ours + '"another-one"')
