"""Compact JWS (RFC 7515) with Ed25519 under the name ``EdDSA`` (RFC 8037), which every JOSE library knows."""

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import KeySet, OKPKey
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode

ALGORITHM: Final = "EdDSA"
TYPE: Final = "unlearning-certificate+jws"
Jwk = Mapping[str, Any]


class BadSignature(Exception):
    """The signature is not that of a listed key over this content. The message names what is wrong."""


class _OnlyEd25519(jws.JWSRegistry):
    """Knows one algorithm, by a name that joserfc's own registry warns of (RFC 9864 would rather have ``Ed25519``)."""

    max_payload_length = 32 * 1024 * 1024

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"the algorithm is {name!r}, not {ALGORITHM}")
        return self.algorithms[ALGORITHM]


def new_key() -> OKPKey:
    """A fresh key; its id is the thumbprint of RFC 7638."""
    return OKPKey.generate_key("Ed25519", auto_kid=True)


def public(key: OKPKey) -> dict[str, Any]:
    """What ``jwks.json`` lists of it."""
    return {**key.as_dict(private=False), "use": "sig", "alg": ALGORITHM}


def sign(payload: bytes, key: OKPKey, *, kind: str = TYPE) -> str:
    """The payload signed, in compact form; the header names the key, and what kind of thing is signed."""
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
    return jws.serialize_compact(header, payload, key, registry=_OnlyEd25519())


def opened(token: str, keys: Mapping[str, Any], *, kind: str = TYPE) -> tuple[bytes, str]:
    """Payload and key id of a token of this kind that one of the JWK set's keys has signed. Raises ``BadSignature``."""
    try:
        known = KeySet.import_key_set({"keys": [_of_ours(key) for key in keys["keys"]]})
        found = jws.extract_compact(token.encode("ascii"), None, registry=_OnlyEd25519())
        header = found.headers()
        kid, typed = header.get("kid"), header.get("typ")
        if typed != kind:
            raise BadSignature(f"typ: the token is {typed!r}, not {kind}")
        if not isinstance(kid, str) or kid not in {key.kid for key in known.keys}:
            raise BadSignature(f"kid: the key {kid!r} is not in the key set")
        written = token.rpartition(".")[2].encode()
        spare_bits_are_zero = urlsafe_b64encode(urlsafe_b64decode(written)) == written
        valid = jws.validate_compact(found, known.get_by_kid(kid), registry=_OnlyEd25519())
        if not valid or not spare_bits_are_zero:
            raise BadSignature("signature: it is not that of the named key over this content")
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSignature(f"signature: {error}") from None
    return found.payload, kid


def payload_of(token: str) -> bytes:
    """The content of a token of our own, unverified."""
    return jws.extract_compact(token.encode("ascii"), None, registry=_OnlyEd25519()).payload


def _of_ours(key: Any) -> Any:
    """A key without the name of its algorithm, of which there are two for the same thing."""
    return {name: value for name, value in key.items() if name != "alg"}
