"""Signatures by Standard Webhooks 1.0.0: symmetric (``v1``) and asymmetric (``v1a``)."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.platform.errors import InvalidInput, Problem

SHARED: Final = "whsec_"
PRIVATE: Final = "whsk_"
PUBLIC: Final = "whpk_"
_BYTES: Final = 32
"""Of a fresh HMAC key, and of the seed of every Ed25519 key."""


class Algorithm(StrEnum):
    """``hmac-sha256``: one secret on both sides; ``ed25519``: receivers hold a public key and can sign nothing."""

    HMAC = "hmac-sha256"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """What one endpoint's messages are signed with; ``material`` is the HMAC key or the Ed25519 seed."""

    algorithm: Algorithm
    material: bytes

    def token(self, content: bytes) -> str:
        """The signature of ``content`` as receivers read it."""
        if self.algorithm == Algorithm.HMAC:
            return f"v1,{_text(hmac.digest(self.material, content, 'sha256'))}"
        return f"v1a,{_text(self._private().sign(content))}"

    @property
    def secret(self) -> str | None:
        """The secret in the form in which receivers are given it; None where they need none."""
        return SHARED + _text(self.material) if self.algorithm == Algorithm.HMAC else None

    @property
    def public(self) -> str | None:
        """The public key by which receivers verify; None where there is none."""
        if self.algorithm == Algorithm.HMAC:
            return None
        return PUBLIC + _text(self._private().public_key().public_bytes_raw())

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.material)


def new_key(algorithm: Algorithm) -> Key:
    """A fresh key."""
    return Key(algorithm, secrets.token_bytes(_BYTES))


def read(text: str, algorithm: Algorithm) -> Key:
    """The key from ``whsec_…`` or ``whsk_…``. Raises ``InvalidInput`` (at ``/secret``) for anything else.

    An Ed25519 key is 32 bytes, or 64 with the public half behind, as some libraries write it.
    """
    prefix = SHARED if algorithm == Algorithm.HMAC else PRIVATE
    material = _bytes(text.removeprefix(prefix)) if text.startswith(prefix) else b""
    if algorithm == Algorithm.HMAC:
        if 24 <= len(material) <= 64:
            return Key(algorithm, material)
        raise _refused("For hmac-sha256 it is whsec_ and base64 of 24 to 64 bytes.")
    if len(material) in (_BYTES, 2 * _BYTES):
        public = Ed25519PrivateKey.from_private_bytes(material[:_BYTES]).public_key().public_bytes_raw()
        if material[_BYTES:] in (b"", public):
            return Key(algorithm, material[:_BYTES])
    raise _refused("For ed25519 it is whsk_ and base64 of the 32 bytes of a private key.")


def signature(keys: Sequence[Key], *, message_id: str, timestamp: int, body: bytes) -> str:
    """One token for each key, in order, of the very bytes that are sent."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(key.token(content) for key in keys)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _refused(detail: str) -> InvalidInput:
    return InvalidInput("The secret is not acceptable.", [Problem("/secret", "bad_secret", detail)])
