"""One secret, a key for each purpose, and sealed values that notice tampering."""

import pytest

from core.platform.secrets import Keyring


def test_each_purpose_has_its_own_key() -> None:
    keyring = Keyring(b"x" * 32)
    assert keyring.key("cursor") == Keyring(b"x" * 32).key("cursor")
    assert keyring.key("cursor") != keyring.key("identity")
    assert keyring.key("cursor") != Keyring(b"y" * 32).key("cursor")


def test_a_sealed_value_opens_only_under_its_secret_and_purpose() -> None:
    keyring = Keyring(b"x" * 32)
    sealed = keyring.seal("webhook", b"value")
    assert b"value" not in sealed
    assert keyring.open("webhook", sealed) == b"value"
    for other, purpose, data in (
        (Keyring(b"y" * 32), "webhook", sealed),
        (keyring, "other", sealed),
        (keyring, "webhook", sealed[:-4] + b"AAAA"),
    ):
        with pytest.raises(ValueError, match="does not open"):
            other.open(purpose, data)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(b"short")


def test_a_new_secret_opens_and_recognises_what_the_one_before_made() -> None:
    old, new = Keyring(b"x" * 32), Keyring(b"y" * 32)
    both = Keyring(b"y" * 32, [b"x" * 32])
    assert both.key_ids == (new.key_id, old.key_id)
    assert both.open("p", old.seal("p", b"value")) == b"value"
    assert both.seal("p", b"value").startswith(new.mark)
    assert new.open("p", both.seal("p", b"value")) == b"value"
    unmarked = old.seal("p", b"value").removeprefix(old.mark)
    assert both.open("p", unmarked) == b"value"
    with pytest.raises(ValueError, match="does not open"):
        new.open("p", old.seal("p", b"value"))


def test_a_code_is_recognised_whole_and_for_its_purpose_only() -> None:
    old, both = Keyring(b"x" * 32), Keyring(b"y" * 32, [b"x" * 32])
    mac = old.mac("p", b"message")
    assert both.vouches("p", b"message", mac)
    assert both.vouches("p", b"message", mac[:16], size=16)
    wrong = [("q", b"message", mac), ("p", b"massage", mac), ("p", b"message", mac[:16]), ("p", b"message", b"")]
    assert not any(both.vouches(*each) for each in wrong)
