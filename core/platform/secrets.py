"""Keys for one purpose each, derived from the service's one secret; and sealing of small values at rest."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Keyring:
    """Derives a 32-byte key for each purpose (HKDF-SHA-256, RFC 5869), so that no key serves two ends."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: at least 32 bytes of entropy. Raises ``ValueError`` when it is shorter."""
        if len(secret) < 32:
            raise ValueError("the service secret needs at least 32 bytes")
        self._secret = secret

    def key(self, purpose: str) -> bytes:
        """The 32-byte key for ``purpose``; the same secret and purpose always give the same key."""
        return HKDF(hashes.SHA256(), 32, salt=None, info=f"unlearn/{purpose}".encode()).derive(self._secret)

    def mac(self, purpose: str, message: bytes) -> bytes:
        """HMAC-SHA-256 of ``message`` under the key for ``purpose``."""
        return hmac.digest(self.key(purpose), message, hashlib.sha256)

    def seal(self, purpose: str, value: bytes) -> bytes:
        """``value`` encrypted and authenticated for storage."""
        return self._box(purpose).encrypt(value)

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """The value given to ``seal``. Raises ``ValueError`` when it was sealed under another secret or altered."""
        try:
            return self._box(purpose).decrypt(sealed)
        except InvalidToken:
            raise ValueError("sealed value does not open under this secret") from None

    def _box(self, purpose: str) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self.key(purpose)))
