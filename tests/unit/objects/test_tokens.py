"""Storage links say what may be done, until when, and cannot be altered."""

import base64
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.platform.objects.tokens import LinkInvalid, StorageLink, read, sign
from core.platform.secrets import Keyring

NOW = datetime(2031, 3, 1, tzinfo=UTC)
KEYS = Keyring(b"k" * 32)
LINK = StorageLink("PUT", "file:///objects/a", NOW.timestamp() + 60, size_bytes=4, sha256="0" * 64)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_link_comes_back_as_it_was_signed() -> None:
    assert read(KEYS, sign(KEYS, LINK), method="PUT", at=NOW) == LINK


def test_a_link_ends_at_its_expiry() -> None:
    token = sign(KEYS, LINK)
    assert read(KEYS, token, method="PUT", at=NOW + timedelta(seconds=59.9))
    with pytest.raises(LinkInvalid, match="expired"):
        read(KEYS, token, method="PUT", at=NOW + timedelta(seconds=60))


def test_a_link_is_for_its_method_alone() -> None:
    with pytest.raises(LinkInvalid):
        read(KEYS, sign(KEYS, LINK), method="GET", at=NOW)


def test_a_link_of_another_secret_is_refused() -> None:
    with pytest.raises(LinkInvalid):
        read(KEYS, sign(Keyring(b"o" * 32), LINK), method="PUT", at=NOW)


def test_every_altered_character_is_noticed() -> None:
    token = sign(KEYS, LINK)
    for i in range(len(token)):
        altered = token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :]
        with pytest.raises(LinkInvalid):
            read(KEYS, altered, method="PUT", at=NOW)


@pytest.mark.parametrize("token", ["", ".", "a.b", "a.b.c", "ü.ü", "a", "=.=", "e30.", " . "])
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(LinkInvalid):
        read(KEYS, token, method="PUT", at=NOW)


def test_another_payload_under_the_same_signature_is_refused() -> None:
    _, mac = sign(KEYS, LINK).split(".")
    payload = json.dumps({**asdict(LINK), "uri": "file:///objects/b"}, separators=(",", ":"), sort_keys=True)
    forged = base64.urlsafe_b64encode(payload.encode()).rstrip(b"=").decode()
    with pytest.raises(LinkInvalid):
        read(KEYS, f"{forged}.{mac}", method="PUT", at=NOW)


@settings(deadline=None)
@given(st.text() | st.lists(st.binary().map(_encoded), max_size=3).map(".".join))
def test_any_other_text_is_refused_as_a_link(text: str) -> None:
    with pytest.raises(LinkInvalid):
        read(KEYS, text, method="PUT", at=NOW)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40), st.none() | st.text(max_size=20))
def test_any_link_comes_back_as_it_was_signed(place: str, filename: str | None) -> None:
    link = replace(LINK, uri=f"file:///{place}", filename=filename)
    assert read(KEYS, sign(KEYS, link), method="PUT", at=NOW) == link
