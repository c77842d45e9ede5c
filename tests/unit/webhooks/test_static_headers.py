"""Which headers an endpoint may want on its messages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.platform.errors import InvalidInput
from core.platform.secrets import Keyring
from core.webhooks import static_headers


def _codes(headers: dict[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        static_headers.check(headers)
    return [(problem.pointer, problem.code) for problem in refused.value.problems]


def test_ordinary_headers_pass_and_are_sealed() -> None:
    headers = {"Authorization": "Basic dTpw", "X-Team": "privacy and legal"}
    assert static_headers.check(headers) == headers
    keyring = Keyring(b"k" * 32)
    sealed = static_headers.seal(headers, keyring)
    assert sealed is not None
    assert b"dTpw" not in sealed
    assert static_headers.unseal(sealed, keyring) == headers
    assert static_headers.unseal(static_headers.seal({}, keyring), keyring) == {}


@pytest.mark.parametrize(
    "name",
    ["Host", "host", "Content-Type", "content-length", "Connection", "Transfer-Encoding", "Webhook-Id", "User-Agent"],
)
def test_what_is_ours_or_the_connections_is_reserved(name: str) -> None:
    assert _codes({name: "x"}) == [(f"/headers/{name}", "bad_header")]


@pytest.mark.parametrize("name", ["", "X Y", "X:Y", "X\r\nY", "Ü", "X" * 101])
def test_what_is_no_name_is_refused(name: str) -> None:
    assert [code for _, code in _codes({name: "x"})] == ["bad_header"]


@pytest.mark.parametrize("value", ["", " x", "x ", "a\r\nInjected: b", "a\nb", "ü", "\0", "x" * 1025])
def test_what_is_no_value_is_refused(value: str) -> None:
    assert _codes({"X": value}) == [("/headers/X", "bad_header")]


def test_a_name_twice_in_different_spelling_is_refused() -> None:
    assert _codes({"X-A": "1", "x-a": "2"}) == [("/headers/X-A", "duplicate"), ("/headers/x-a", "duplicate")]


def test_there_may_be_twenty() -> None:
    assert len(static_headers.check({f"X-{n}": "x" for n in range(20)})) == 20
    assert _codes({f"X-{n}": "x" for n in range(21)}) == [("/headers", "too_many")]


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=3))
def test_any_headers_are_refused_or_can_stand_in_a_message_as_they_are(headers: dict[str, str]) -> None:
    try:
        taken = static_headers.check(headers)
    except InvalidInput:
        return
    assert all(text.isascii() and text.isprintable() for pair in taken.items() for text in pair)
