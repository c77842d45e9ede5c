"""Access tokens of OAuth 2.0's client credentials grant (RFC 6749, 4.4): a key's powers, or some of them, for an hour.

A token is a JWT (RFC 9068) under a key that only this service has. Nothing about it is stored: that it still counts is
decided by the API key's row, which every call reads anyway, so revoking the key ends its tokens at once.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from sqlalchemy.orm import Session

from core.access import service
from core.access.principal import GRANTABLE, Principal
from core.access.repository import ApiKeys
from core.access.service import Credential, Unauthenticated
from core.platform.errors import DomainError
from core.platform.ids import uuid7
from core.platform.secrets import Keyring

LONGEST: Final = timedelta(hours=1)
_ALGORITHM: Final = "HS256"
_TYPE: Final = "at+jwt"
_PURPOSE: Final = "access-token"
_UNREADABLE: Final = (JoseError, ValueError, TypeError)
"""What the library raises for what is no token of ours; it takes the types of a header's members for granted."""


class ScopeNotGranted(DomainError):
    """A scope was asked for that does not exist or that the key lacks."""

    code = "scope_not_granted"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as a caller sent it, not yet looked into."""

    text: str


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just made, whose it is and what it opens."""

    text: str
    expires_in_s: int
    scopes: tuple[str, ...]
    key_id: str


class Tokens:
    """Issues and reads the tokens of one service."""

    def __init__(self, keyring: Keyring, issuer: str) -> None:
        """``issuer``: the service's public address; a token of another one does not count."""
        keys = [OctKey.import_key(key) for key in keyring.keys(_PURPOSE).values()]
        self._key, self._previous = keys[0], keys[1:]
        self._issuer = issuer

    def issue(self, tx: Session, credential: Credential, *, scopes: Collection[str], at: datetime) -> IssuedToken:
        """A token for the key, narrowed to ``scopes`` if there are any; it ends with the key at the latest.

        Raises ``Unauthenticated`` and ``ScopeNotGranted``.
        """
        client = service.authenticate(tx, credential, at=at)
        granted = tuple(sorted(set(scopes) or client.scopes))
        if not all(scope in GRANTABLE and client.may(scope) for scope in granted):
            raise ScopeNotGranted("The key does not have every scope that was asked for.")
        until = min(at + LONGEST, _end_of(tx, client) or at + LONGEST)
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": client.key_id,
            "client_id": client.key_id,
            "scope": " ".join(granted),
            "iat": int(at.timestamp()),
            "exp": int(until.timestamp()),
            "jti": str(uuid7()),
        }
        text = jwt.encode({"alg": _ALGORITHM, "typ": _TYPE}, claims, self._key, algorithms=[_ALGORITHM])
        return IssuedToken(text, int(until.timestamp()) - int(at.timestamp()), granted, client.key_id)

    def authenticate(self, tx: Session, given: Credential | AccessToken, *, at: datetime) -> Principal:
        """Whose credential or token it is, and what it may do. Raises ``Unauthenticated``."""
        if isinstance(given, Credential):
            return service.authenticate(tx, given, at=at)
        claims = self._claims(given.text, at)
        client = service.acting_for(tx, claims["sub"], at=at)
        return replace(client, scopes=frozenset(scope for scope in claims["scope"].split() if client.may(scope)))

    def _claims(self, text: str, at: datetime) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._issuer},
            "exp": {"essential": True},
        }
        try:
            token = self._decoded(text)
            jwt.JWTClaimsRegistry(now=int(at.timestamp()), **wanted).validate(token.claims)
        except _UNREADABLE:
            raise Unauthenticated("The credential is not valid.") from None
        if token.header.get("typ") != _TYPE:
            raise Unauthenticated("The credential is not valid.")
        return token.claims

    def _decoded(self, text: str) -> jwt.Token:
        """Raises one of ``_UNREADABLE`` when it is signed with none of our keys."""
        for key in self._previous:
            with suppress(*_UNREADABLE):
                return jwt.decode(text, key, algorithms=[_ALGORITHM])
        return jwt.decode(text, self._key, algorithms=[_ALGORITHM])


def _end_of(tx: Session, client: Principal) -> datetime | None:
    found = ApiKeys(tx).with_workspace(client.key_id)
    return found.expires_at if found else None
