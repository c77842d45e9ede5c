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
