"""Whatever stands where a credential is looked for is read as one or is no credential; nothing else comes of it."""

import base64
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.security import credential_of
from core.access.service import Credential, Unauthenticated
from core.access.tokens import AccessToken

KEY = f"unl_live_{'0' * 26}_{'a' * 43}"
KEY_ID = f"key_{'0' * 26}"
HEADER_TEXT = st.text(st.characters(max_codepoint=255))
"""What can come in a header: the framework reads its bytes as Latin-1."""


def _read(headers: Mapping[str, str]) -> Credential | AccessToken | None:
    try:
        return credential_of(headers)
    except Unauthenticated:
        return None


def _basic(pair: bytes) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


@settings(deadline=None)
@given(st.sampled_from(["", "Bearer ", "bearer  ", "Basic ", "BASIC\t", "Digest "]), HEADER_TEXT)
def test_any_authorization_is_read_or_refused(scheme: str, text: str) -> None:
    found = _read({"authorization": scheme + text})
    assert found is None or scheme.strip().lower() in ("bearer", "basic", "")


@settings(deadline=None)
@given(HEADER_TEXT)
def test_any_key_in_a_header_of_its_own_is_read_or_refused(text: str) -> None:
    assert _read({"x-api-key": text}) is None


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_basic_pair_is_read_or_refused(pair: bytes) -> None:
    assert _read(_basic(pair)) is None


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"])))
def test_a_secret_of_a_basic_pair_comes_back_as_it_was_sent(secret: str) -> None:
    assert _read(_basic(f"{KEY_ID}:{secret}".encode())) == Credential(KEY_ID, secret)


def test_a_key_is_the_same_in_every_spelling() -> None:
    for headers in (
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bEaReR   {KEY} "},
        {"x-api-key": f" {KEY} "},
        _basic(f"{KEY_ID}:{KEY}".encode()),
    ):
        assert credential_of(headers) == Credential(KEY_ID, KEY)


@pytest.mark.parametrize(
    "key_id", ["", "key_", "key_\0", "key_a\n", "key_\u202ea", "key_\ud800", "key_A", "a", "key_" + "a" * 65]
)
def test_what_cannot_be_a_key_id_never_gets_to_the_database(key_id: str) -> None:
    with pytest.raises(Unauthenticated):
        Credential.of_pair(key_id, "secret")
