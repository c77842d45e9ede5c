"""The signed end of an exported audit log, made with the key that signs certificates."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit_export
from core.access.audit_export import Head
from core.certificates import keys, signing
from core.platform.clock import rfc3339
from core.platform.secrets import Keyring

TYPE: Final = "audit-checkpoint+jws"


def signed(tx: Session, head: Head, keyring: Keyring, *, issuer: str, at: datetime) -> str:
    """The token that ends an export. Raises ``ValueError`` when the signing key does not open under our secret."""
    claims = audit_export.claims(head, issuer=issuer, at=rfc3339(at))
    return signing.sign(claims, keys.in_use(tx, keyring, at=at), kind=TYPE)


def opener(jwks: Mapping[str, Any]) -> Callable[[str], bytes]:
    """What ``audit_export.verify`` opens tokens with, offline."""

    def opened(token: str) -> bytes:
        try:
            return signing.opened(token, jwks, kind=TYPE)[0]
        except signing.BadSignature as error:
            raise ValueError(str(error)) from None

    return opened
