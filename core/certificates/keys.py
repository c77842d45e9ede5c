"""The service's signing keys: one in use, the retired ones kept for verifying what they have signed."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from joserfc.jwk import OKPKey
from sqlalchemy.orm import Session

from core.certificates import signing
from core.certificates.repository import SigningKeys
from core.certificates.tables import SigningKey
from core.platform.secrets import Keyring

PURPOSE: Final = "signing-key"


def in_use(tx: Session, keyring: Keyring, *, at: datetime) -> OKPKey:
    """The key to sign with; the first one is made when it is needed.

    Raises ``ValueError`` when it was sealed under another service secret: rotate then.
    """
    keys = SigningKeys(tx)
    found = keys.in_use()
    if found is None:
        keys.lock()
        found = keys.in_use() or _made(tx, keyring, at)
    return OKPKey.import_key(json.loads(keyring.open(PURPOSE, found.sealed_private)))


def rotate(tx: Session, keyring: Keyring, *, at: datetime) -> SigningKey:
    """Sign with a fresh key from now on. The old one's private half is destroyed, its public half stays listed."""
    keys = SigningKeys(tx)
    keys.lock()
    before = keys.in_use()
    if before is not None:
        before.retired_at, before.sealed_private = at, b""
        tx.flush()
    return _made(tx, keyring, at)


def listed(tx: Session) -> Sequence[SigningKey]:
    """Every key, newest first."""
    return SigningKeys(tx).all()


def jwks(tx: Session) -> dict[str, list[dict[str, Any]]]:
    """The JWK set (RFC 7517) of all public keys, the retired ones too."""
    return {"keys": [key.public for key in listed(tx)]}


def _made(tx: Session, keyring: Keyring, at: datetime) -> SigningKey:
    key = signing.new_key()
    sealed = keyring.seal(PURPOSE, json.dumps(key.as_dict(private=True)).encode())
    return SigningKeys(tx).add(
        SigningKey(kid=key.kid, public=signing.public(key), sealed_private=sealed, created_at=at)
    )
