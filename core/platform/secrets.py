"""Keys for one purpose each, derived from the service's secret; and sealing of small values at rest.

The secret can be replaced: what is kept names the key that it was made with, the current secret makes everything new,
and previous ones still open and recognise what they have made.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.platform.settings import Settings

_SHORTEST: Final = 32
_KEY_ID_BYTES: Final = 4


class Keyring:
    """Derives a 32-byte key for each purpose (HKDF-SHA-256, RFC 5869), so that no key serves two ends."""

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        """``secret``: at least 32 bytes of entropy; ``previous``: others that made what is still kept.

        Raises ``ValueError`` when one is shorter.
        """
        if any(len(each) < _SHORTEST for each in (secret, *previous)):
            raise ValueError(f"the service secret needs at least {_SHORTEST} bytes")
        self.key_id: Final = _key_id(secret)
        """Names the current secret and tells nothing of it."""
        self._secrets: Final = {_key_id(each): each for each in (secret, *previous)}

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """Of the configured secrets. Raises ``ValueError`` when there is none."""
        if settings.secret is None:
            raise ValueError("UNLEARN_SECRET is not set")
        previous = [each.get_secret_value().encode() for each in settings.previous_secrets]
        return cls(settings.secret.get_secret_value().encode(), previous)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all secrets, the current one first."""
        return tuple(self._secrets)

    def key(self, purpose: str) -> bytes:
        """The 32-byte key for ``purpose``; the same secret and purpose always give the same key."""
        return _derived(self._secrets[self.key_id], purpose)

    def keys(self, purpose: str) -> Mapping[str, bytes]:
        """The keys for ``purpose`` under all secrets by their ids, the current one first."""
        return {key_id: _derived(secret, purpose) for key_id, secret in self._secrets.items()}

    def mac(self, purpose: str, message: bytes) -> bytes:
        """HMAC-SHA-256 of ``message`` under the key for ``purpose``."""
        return hmac.digest(self.key(purpose), message, hashlib.sha256)

    def vouches(self, purpose: str, message: bytes, mac: bytes, *, size: int = 32) -> bool:
        """Whether ``mac`` is the first ``size`` bytes of the HMAC of ``message`` under any of the secrets."""
        macs = (hmac.digest(key, message, hashlib.sha256)[:size] for key in self.keys(purpose).values())
        return any(hmac.compare_digest(known, mac) for known in macs)

    def seal(self, purpose: str, value: bytes) -> bytes:
        """``value`` encrypted and authenticated for storage, with the key's id before it."""
        return self.mark + _box(self.key(purpose)).encrypt(value)

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """The value given to ``seal``.

        Raises ``ValueError`` when it was sealed under a secret that is not configured, or altered.
        """
        named, dot, token = sealed.rpartition(b".")
        keys = self.keys(purpose)
        if dot:
            known = keys.get(named.decode("ascii", "replace"))
            keys = {} if known is None else {"": known}
        for key in keys.values():
            try:
                return _box(key).decrypt(token)
            except InvalidToken:
                continue
        raise ValueError("sealed value does not open under this secret")

    @property
    def mark(self) -> bytes:
        """What values sealed under the current secret begin with. Before there were key ids there was no mark."""
        return f"{self.key_id}.".encode()


def _derived(secret: bytes, purpose: str, size: int = 32) -> bytes:
    return HKDF(hashes.SHA256(), size, salt=None, info=f"unlearn/{purpose}".encode()).derive(secret)


def _key_id(secret: bytes) -> str:
    return _derived(secret, "key-id", _KEY_ID_BYTES).hex()


def _box(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))
