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
    """Digests under one key, derived once: for indexing many values."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.key(PURPOSE)

    def __call__(self, kind: str, value: str) -> bytes:
        """The 32-byte HMAC of the type and the normalised value."""
        return self.of_hash(kind, hashlib.sha256(normalised(kind, value).encode()).hexdigest())

    def of_hash(self, kind: str, sha256_hex: str) -> bytes:
        """The same for a value of which only the SHA-256 (of its normalised form, in hex) is known."""
        return hmac.digest(self._key, f"{kind}\0{sha256_hex.lower()}".encode(), hashlib.sha256)


def identity_digest(keyring: Keyring, type: str, value: str, *, hashed: bool = False) -> bytes:
    """The digest by which records of an identity are found; equal for spellings that mean the same.

    ``hashed``: ``value`` is the hex SHA-256 of the normalised value.
    """
    digests = IdentityDigests(keyring)
    return digests.of_hash(type, value) if hashed else digests(type, value)


def normalised(kind: str, value: str) -> str:
    """NFC without surrounding space, e-mail addresses also in lower case; customer ids of controllers as they are."""
    if kind in _EXACT:
        return value
    trimmed = unicodedata.normalize("NFC", value).strip()
    return unicodedata.normalize("NFC", trimmed.lower()) if kind == "email" else trimmed
