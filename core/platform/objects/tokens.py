"""Signed links into a directory store: the token says what may be done with which object until when."""

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, cast

from core.platform.errors import NotFound
from core.platform.secrets import Keyring

PURPOSE = "storage-links"


class LinkInvalid(NotFound):
    """The link was altered, was signed by somebody else, or has expired."""

    code = "link_invalid"


@dataclass(frozen=True, slots=True)
class StorageLink:
    """What a link permits. PUT links fix the content's size and SHA-256."""

    method: Literal["GET", "PUT"]
    uri: str
    expires_at: float
    """Unix seconds."""
    size_bytes: int | None = None
    sha256: str | None = None
    filename: str | None = None


def sign(keyring: Keyring, link: StorageLink) -> str:
    """The token of a link: its fields and their HMAC, safe in a URL path."""
    payload = json.dumps(asdict(link), separators=(",", ":"), sort_keys=True).encode()
    return f"{_encode(payload)}.{_encode(keyring.mac(PURPOSE, payload))}"


def read(keyring: Keyring, token: str, *, method: str, at: datetime) -> StorageLink:
    """The link behind a token. Raises ``LinkInvalid`` when it was altered, has expired, or is for another method."""
    try:
        payload, mac = (_decode(part) for part in token.split("."))
    except (ValueError, binascii.Error):
        raise LinkInvalid("This link is not valid.") from None
    if not keyring.vouches(PURPOSE, payload, mac):
        raise LinkInvalid("This link is not valid.")
    link = StorageLink(**cast("dict[str, object]", json.loads(payload)))  # pyright: ignore[reportArgumentType]
    if at.timestamp() >= link.expires_at:
        raise LinkInvalid("This link has expired; ask for a new one.")
    if method != link.method:
        raise LinkInvalid(f"This link is for {link.method}.")
    return link


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    # Only the canonical spelling: two different tokens must never mean the same link.
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("not canonical")
    return data
