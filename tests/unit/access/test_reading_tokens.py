"""What looks like an access token and is none of ours is refused as a credential, whatever stands in it."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from core.access.service import Unauthenticated
from core.access.tokens import AccessToken, Tokens
from core.platform.secrets import Keyring

TOKENS = Tokens(Keyring(b"k" * 32, previous=[b"o" * 32]), "https://unlearn.example")
AT = datetime(2031, 3, 1, tzinfo=UTC)
NO_DATABASE = Session()
"""Bound to nothing: a token that is refused is refused before anything is looked up."""

_NAMES = ["alg", "typ", "crit", "b64", "kid", "jwk", "jku", "x5c", "x5t", "cty", "zip", "enc", "p2c"]
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["HS256", "none", "at+jwt", "b64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_HEADERS = st.dictionaries(st.sampled_from(_NAMES), _VALUES).map(lambda header: {"alg": "HS256", **header})


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        TOKENS.authenticate(NO_DATABASE, AccessToken(text), at=AT)


@settings(deadline=None, max_examples=60)
@example({"alg": "HS256", "crit": 5})
@example({"alg": "HS256", "crit": [[]]})
@example({"alg": "HS256", "b64": False, "crit": ["b64"]})
@given(_HEADERS)
def test_any_header_is_refused_that_we_did_not_sign(header: dict[str, Any]) -> None:
    _refused(f"{_part(json.dumps(header).encode())}.{_part(b'{}')}.{_part(bytes(32))}")


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_any_bytes_in_three_parts_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    _refused(".".join(map(_part, (header, payload, signature))))


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_text_in_three_parts_is_refused(header: str, payload: str, signature: str) -> None:
    _refused(f"{header}.{payload}.{signature}")


@pytest.mark.parametrize("depth", [50, 150, 500, 5000])
def test_a_header_nested_deeply_is_refused(depth: int) -> None:
    for raw in (
        b"[" * depth + b"]" * depth,
        b'{"alg":' * depth,
        b'{"alg":"HS256","a":' + b"[" * depth + b"]" * depth + b"}",
    ):
        _refused(f"{_part(raw)}.{_part(b'{}')}.{_part(bytes(32))}")
