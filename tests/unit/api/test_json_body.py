"""Bodies that could break something later are refused before anything reads them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import MalformedRequest
from api.middleware import check_json

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(_JSON)
def test_ordinary_json_is_taken(value: Any) -> None:
    check_json(json.dumps(value).encode())
    check_json(json.dumps(value, ensure_ascii=False).encode())


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    try:
        check_json(body)
    except MalformedRequest:
        return
    json.loads(body)


@pytest.mark.parametrize("depth", [10, 63])
def test_some_depth_is_ordinary(depth: int) -> None:
    check_json(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("depth", [64 + 1, 900, 100_000])
def test_more_is_refused(depth: int) -> None:
    with pytest.raises(MalformedRequest):
        check_json(b"[" * depth + b"]" * depth)


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    check_json(b'"\\\\u0000"')
    with pytest.raises(MalformedRequest):
        check_json(b'"\\u0000"')
