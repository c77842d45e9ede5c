"""Keyed digests of what identifies people, so that they can be found and are not kept."""

import hashlib
import hmac
import unicodedata
from typing import Final

from core.platform.secrets import Keyring

PURPOSE: Final = "record-identities"


class IdentityDigests:
    """Digests under one key, derived once: for indexing many values."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.key(PURPOSE)

    def __call__(self, kind: str, value: str) -> bytes:
        """The 32-byte HMAC of the type and the normalised value."""
        message = f"{kind}\0{normalised(kind, value)}".encode()
        return hmac.digest(self._key, message, hashlib.sha256)


def identity_digest(keyring: Keyring, type: str, value: str) -> bytes:
    """The digest by which records of an identity are found; equal for spellings that mean the same."""
    return IdentityDigests(keyring)(type, value)


def normalised(kind: str, value: str) -> str:
    """NFC without surrounding space; e-mail addresses also in lower case."""
    trimmed = unicodedata.normalize("NFC", value).strip()
    return unicodedata.normalize("NFC", trimmed.lower()) if kind == "email" else trimmed
