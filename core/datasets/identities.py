"""Keyed digests of what identifies people, so that they can be found and are not kept.

A digest is the HMAC of the SHA-256 of the normalised value, so that callers who send only that hash find the same
records as those who send the value.
"""

import hashlib
import hmac
import unicodedata
from typing import Final

from core.platform.secrets import Keyring

PURPOSE: Final = "record-identities"
_EXACT: Final = frozenset({"controller_customer_id"})
"""Types whose values are opaque: no spelling of them means the same as another."""


class IdentityDigests:
    """Digests under the current key, derived once: for indexing many values."""

    def __init__(self, keyring: Keyring) -> None:
        self.key_id: Final = keyring.key_id
        self._key = keyring.key(PURPOSE)

    def __call__(self, kind: str, value: str) -> bytes:
        """The 32-byte HMAC of the type and the normalised value."""
        return self.of(kind, value)

    def of(self, kind: str, value: str, *, hashed: bool = False) -> bytes:
        """The same; ``hashed``: ``value`` is the hex SHA-256 of the normalised value."""
        return _digest(self._key, kind, value.lower() if hashed else _sha256(kind, value))


def identity_digests(keyring: Keyring, type: str, value: str, *, hashed: bool = False) -> tuple[bytes, ...]:
    """The digests by which records of an identity are found, one a secret; equal for spellings that mean the same.

    ``hashed``: ``value`` is the hex SHA-256 of the normalised value.
    """
    sha256_hex = value.lower() if hashed else _sha256(type, value)
    return tuple(_digest(key, type, sha256_hex) for key in keyring.keys(PURPOSE).values())


def _sha256(kind: str, value: str) -> str:
    return hashlib.sha256(normalised(kind, value).encode()).hexdigest()


def _digest(key: bytes, kind: str, sha256_hex: str) -> bytes:
    return hmac.digest(key, f"{kind}\0{sha256_hex}".encode(), hashlib.sha256)


def normalised(kind: str, value: str) -> str:
    """NFC without surrounding space, e-mail addresses also in lower case; customer ids of controllers as they are."""
    if kind in _EXACT:
        return value
    trimmed = unicodedata.normalize("NFC", value).strip()
    return unicodedata.normalize("NFC", trimmed.lower()) if kind == "email" else trimmed
