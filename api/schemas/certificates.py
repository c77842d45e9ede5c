"""Certificates and reports on the wire."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import WireOut
from core.certificates.merkle import Proof
from core.certificates.service import CertificateView
from core.certificates.verifying import wrapped

Kind = Literal["certificate", "report"]

_SUMMARY: JsonDict = {
    "id": "crt_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "kind": "certificate",
    "run_id": "run_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "model": "digits-classifier",
    "published_version": 2,
    "verdict": "passed_with_warnings",
    "deletion_request_ids": ["del_01k9d3v6m2q8r4t6w8y0a2c4e6"],
    "kid": "EZIrj4k5bjYSegd-hPHkXGJ0SrX5lnVzPmimltkeSKQ",
    "issued_at": 1929870760,
}
_WHOLE: JsonDict = {
    **_SUMMARY,
    "claims": {
        "format": "unlearning-certificate/1",
        "kind": "certificate",
        "iss": "https://unlearn.example",
        "sub": "run_01k9d3v6m2q8r4t6w8y0a2c4e6",
        "jti": "crt_01k9d3v6m2q8r4t6w8y0a2c4e6",
        "iat": 1929870760,
        "verdict": "passed_with_warnings",
    },
    "jws": "eyJhbGciOiJFZERTQSIsImtpZCI6IkVaSXJq…",
}
_PROOF: JsonDict = {
    "certificate_id": "crt_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "record_id": "r-17",
    "nonce": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "index": 4,
    "count": 12,
    "path": ["0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    "root": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
}
_KEYS: JsonDict = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "4-jL6ssNyPTIiMbj9s82ZSjMHlr6bea_yLyYZiK3O7A",
            "kid": "dyqNkooRA4eyVsIUBnJpRe2-0rUiuN9xBoGd3ttd_9E",
            "use": "sig",
            "alg": "EdDSA",
        }
    ]
}


class CertificateSummaryOut(WireOut):
    """A certificate or report without what it claims."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMMARY]})

    id: str
    kind: Kind = Field(description="`report`: it certifies no success")
    run_id: str
    model: str
    published_version: int | None
    verdict: str | None
    deletion_request_ids: list[str]
    kid: str = Field(description="the key that signed it; see `/.well-known/jwks.json`")
    issued_at: int = Field(description="Unix seconds, the claim `iat`")

    @classmethod
    def of(cls, view: CertificateView) -> Self:
        """From a view."""
        return cls(**wrapped(view.claims, view.certificate.kid))


class CertificateOut(CertificateSummaryOut):
    """A certificate or report. Every other field says what `jws` says, which alone is signed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WHOLE]})

    claims: dict[str, Any]
    jws: str = Field(description="compact JWS over the canonical form of `claims`")

    @classmethod
    def of(cls, view: CertificateView) -> Self:
        """From a view."""
        shown = wrapped(view.claims, view.certificate.kid)
        return cls(**shown, claims=view.claims, jws=view.certificate.jws)


class ProofOut(WireOut):
    """That a certificate speaks of a record: a path in its Merkle tree (RFC 9162) from the record's digest to the root.

    The digest is SHA-256(0x00 ‖ nonce ‖ record id), an inner node SHA-256(0x01 ‖ left ‖ right).
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_PROOF]})

    certificate_id: str
    record_id: str
    nonce: str = Field(description="the record's own salt; it tells nothing of other records")
    index: int
    count: int
    path: list[str]
    root: str

    @classmethod
    def of(cls, certificate_id: str, proof: Proof) -> Self:
        """From a proof."""
        return cls(
            certificate_id=certificate_id,
            record_id=proof.record_id,
            nonce=proof.nonce,
            index=proof.index,
            count=proof.count,
            path=list(proof.path),
            root=proof.root,
        )


class JwksOut(BaseModel):
    """A JWK set (RFC 7517): the key that signs now and all that have been retired."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEYS]})

    keys: list[dict[str, Any]]
