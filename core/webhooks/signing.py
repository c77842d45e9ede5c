"""Signatures by Standard Webhooks 1.0.0, symmetric (``v1``)."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from core.platform.errors import InvalidInput, Problem

PREFIX: Final = "whsec_"
_BYTES: Final = 32


def new_secret() -> bytes:
    """A fresh signing key."""
    return secrets.token_bytes(_BYTES)


def shown(secret: bytes) -> str:
    """The key as receivers are given it."""
    return PREFIX + base64.b64encode(secret).decode()


def read(text: str) -> bytes:
    """The key from the form in which it is shown. Raises ``InvalidInput`` unless it has 24 to 64 bytes."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(PREFIX) or not 24 <= len(secret) <= 64:
        raise InvalidInput(
            "The secret is not acceptable.", [Problem("/secret", "bad_secret", "whsec_ and base64 of 24 to 64 bytes.")]
        )
    return secret


def signature(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """One token for each key, in order, of the very bytes that are sent."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}" for key in keys)
