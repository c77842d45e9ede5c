"""Whether a certificate is what it says, from the file and the issuer's public keys alone: no database, no network.

Checked are the signature, the shape of every claim, and that the claims agree with each other: digests with what they
are digests of, gates with their numbers, the verdict with the gates, the kind with the verdict.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from pydantic import ValidationError

from core.certificates import merkle, signing
from core.certificates.canonical import canonical
from core.certificates.claims import combined, kind_of, ledger_digest
from core.certificates.shape import Claims
from core.certificates.words import NOT_PROVEN, STATEMENTS
from core.evaluation.gates import Gate, status
from core.evaluation.limits import GATES, Limit
from core.evaluation.verdict import verdict
from core.registry.publishing import folder_digest
from core.unlearning.job import StoredFile

Json = Mapping[str, Any]

ENOUGH: Final = 0.8
"""Share of forget records that must have a match in the holdout; as in ``core.evaluation.matching``, without numpy."""


class Rejected(Exception):
    """The certificate does not hold. ``field``: a JSON Pointer to what is wrong, or a part of the signature."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


@dataclass(frozen=True, slots=True)
class Verified:
    """A certificate that holds, and the key that signed it."""

    claims: Claims
    kid: str


def verify(text: str, keys: Json, *, issuer: str | None = None) -> Verified:
    """Check a compact JWS, or the API's JSON with ``jws`` in it, of which then every field must be what was signed.

    keys: a JWK set. issuer: who must have issued it. Raises ``Rejected``, naming the field.
    """
    document = _document(text)
    token = _token(document) if document is not None else text.strip()
    try:
        payload, kid = signing.opened(token, keys)
    except signing.BadSignature as error:
        raise Rejected("signature", str(error)) from None
    raw = _claims(payload)
    if document is not None:
        _compare_document(document, raw, token, kid)
    claims = _shaped(raw)
    if issuer is not None and claims.iss != issuer:
        raise Rejected("/iss", f"it was issued by {claims.iss}, not by {issuer}")
    for rule in _RULES:
        for field, why in rule(claims, raw):
            raise Rejected(field, why)
    return Verified(claims, kid)


def check_proof(claims: Claims, proof: Json) -> merkle.Proof:
    """That the proof shows its record id to be in the certificate's tree. Raises ``Rejected``."""
    try:
        found = merkle.Proof(
            proof["record_id"], proof["nonce"], proof["index"], proof["count"], tuple(proof["path"]), proof["root"]
        )
        same = (found.root, found.count) == (claims.records.root, claims.records.count)
        if not same or not merkle.holds(found):
            raise Rejected("proof", "it does not lead from the record id to the certificate's root")
    except (KeyError, TypeError, AttributeError):
        raise Rejected("proof", "it is not a proof as the service gives it") from None
    return found


def check_ledger(claims: Claims, steps: list[Json]) -> None:
    """That these rows, as the API gives them, are the ledger that the certificate speaks of. Raises ``Rejected``."""
    if ledger_digest(steps) != claims.ledger.sha256:
        raise Rejected("/ledger/sha256", "it is not the digest of these steps")


def _document(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = _loaded(text)
    except ValueError as error:
        raise Rejected("file", f"it is neither a compact JWS nor JSON: {error}") from None
    return found if isinstance(found, dict) else None


def _token(document: Json) -> str:
    token = document.get("jws")
    if not isinstance(token, str):
        raise Rejected("/jws", "there is no signed form in the file")
    return token


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        raw = _loaded(payload.decode())
    except ValueError as error:
        raise Rejected("payload", f"it is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise Rejected("payload", "it is not a JSON object")
    if canonical(raw) != payload:
        raise Rejected("payload", "it is not in canonical form")
    return raw


def _loaded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _compare_document(document: Json, raw: Json, token: str, kid: str) -> None:
    expected = {**wrapped(raw, kid), "claims": raw, "jws": token}
    field = _difference(document, expected, "")
    if field is not None:
        raise Rejected(field, "it is not what was signed")


def wrapped(claims: Json, kid: str) -> dict[str, Any]:
    """What the API shows beside the claims themselves; all of it follows from them."""
    return {
        "id": claims.get("jti"),
        "kind": claims.get("kind"),
        "run_id": claims.get("sub"),
        "model": _at(claims, "model", "name"),
        "published_version": _at(claims, "published", "version"),
        "verdict": claims.get("verdict"),
        "deletion_request_ids": [one["id"] for one in claims.get("deletion_requests", ())],
        "kid": kid,
        "issued_at": claims.get("iat"),
    }


def _at(claims: Json, *names: str) -> Any:
    found: Any = claims
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _difference(found: Any, expected: Any, place: str) -> str | None:
    """JSON Pointer to the first difference, None when there is none. 1, 1.0 and true are three different things."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in {**expected, **found}:
            inner = f"{place}/{str(name).replace('~', '~0').replace('/', '~1')}"
            if name not in found or name not in expected:
                return inner
            deeper = _difference(found[name], expected[name], inner)
            if deeper is not None:
                return deeper
        return None
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        deeper = (_difference(a, b, f"{place}/{i}") for i, (a, b) in enumerate(zip(found, expected, strict=True)))
        return next((one for one in deeper if one is not None), None)
    return None if canonical(found) == canonical(expected) else place


def _shaped(raw: Json) -> Claims:
    try:
        return Claims.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Rejected("/" + "/".join(str(part) for part in first["loc"]), first["msg"]) from None


# Rules: each names the fields that do not agree with others.

Complaints = Iterator[tuple[str, str]]


def _versions(claims: Claims, _raw: Json) -> Complaints:
    for name, version in (("base", claims.base), ("published", claims.published)):
        if version is not None:
            files = [StoredFile(file.path, "", file.size, file.sha256) for file in version.files]
            if folder_digest(files) != version.digest:
                yield f"/{name}/digest", "it is not the digest of the listed files"
    if claims.published is not None and claims.published.version <= claims.base.version:
        yield "/published/version", "it is not later than the base version"
    if claims.published is not None and claims.published.digest == claims.base.digest:
        yield "/published/digest", "it is that of the base version: nothing was changed"


def _dataset(claims: Claims, _raw: Json) -> Complaints:
    data, chosen = claims.dataset, claims.dataset.selection
    sets = (chosen.forget, chosen.retain) if chosen else ()
    for name, found, wanted in (("before", data.before, sets), ("after", data.after, sets[1:])):
        if found != (combined(data.fingerprint, *wanted) if chosen else None):
            yield f"/dataset/{name}", "it does not follow from the fingerprint and the selection"


def _records(claims: Claims, _raw: Json) -> Complaints:
    records = claims.records
    if (records.root is None) != (records.count == 0):
        yield "/records/root", "there is a root exactly when there are records"
    if records.digests is None:
        return
    if len(records.digests) != records.count:
        yield "/records/count", "it is not the number of digests"
    if any(a >= b for a, b in pairwise(records.digests)):
        yield "/records/digests", "they are not sorted, or one stands twice"
    if records.digests and merkle.root([bytes.fromhex(one) for one in records.digests]).hex() != records.root:
        yield "/records/root", "it is not the root of the tree over the digests"


def _parameters(claims: Claims, _raw: Json) -> Complaints:
    for name, value in (("method", claims.method), ("seed", claims.seed)):
        if claims.parameters.get(name) != value:
            yield f"/{name}", "it is not that of the parameters"


def _times(claims: Claims, _raw: Json) -> Complaints:
    if datetime.fromisoformat(claims.run.finished_at).timestamp() >= claims.iat + 1:
        yield "/iat", "it was issued before the run had ended"


def _gates(claims: Claims, _raw: Json) -> Complaints:
    measured: Any = ((claims.metrics or {}).get("after") or {}).get("measurements") or {}
    for number, gate in enumerate(claims.gates):
        place = f"/gates/{number}"
        if gate.name not in GATES:
            yield f"{place}/name", "there is no such gate"
        judged = Gate.from_dict(gate.model_dump())
        limit = Limit(gate.group, gate.at_least, gate.at_most, gate.severity)
        if gate.status != status(judged.low, judged.high, limit):
            yield f"{place}/status", "it does not follow from the interval and the margin"
        if gate.passed != (gate.status == "passed"):
            yield f"{place}/passed", "it contradicts the status"
        if gate.limit != judged.limit:
            yield f"{place}/limit", "it is not the margin's nearest edge"
        for name in ("value", "low", "high") if gate.name in measured else ():
            if measured[gate.name].get(name) != getattr(gate, name):
                yield f"{place}/{name}", "it is not what the metrics say was measured"


def _verdict(claims: Claims, raw: Json) -> Complaints:
    if (claims.verdict is None) != (not claims.gates and not claims.verdict_reasons):
        yield "/verdict", "there are gates or reasons exactly when there is a verdict"
    if claims.verdict is None:
        return
    judged = [Gate.from_dict(gate) for gate in raw["gates"]]
    share = ((claims.metrics or {}).get("matching") or {}).get("matched_share")
    matched = (True, False) if share is None else (share >= ENOUGH,)
    if claims.verdict not in {verdict(judged, matched=one).verdict for one in matched}:
        yield "/verdict", "it does not follow from the gates"
    reasons = " ".join(claims.verdict_reasons)
    for gate in judged:
        if gate.status != "passed" and gate.name not in reasons:
            yield "/verdict_reasons", f"they do not mention {gate.name}, which did not pass"


def _kind(claims: Claims, _raw: Json) -> Complaints:
    published = claims.published is not None
    if claims.kind != kind_of(published=published, verdict=claims.verdict, metrics=claims.metrics):
        yield "/kind", "it does not follow from verdict, publication and controls"
    if claims.statement != STATEMENTS[claims.kind]:
        yield "/statement", f"it is not that of a {claims.kind}"
    if claims.not_proven != list(NOT_PROVEN):
        yield "/not_proven", "it is not the list of this format"
    if published != (claims.run.status == "succeeded"):
        yield "/published", "a version is published exactly when the run has succeeded"
    if (claims.error is not None) != (claims.run.status == "failed"):
        yield "/error", "there is an error exactly when the run has failed"


_RULES: Final[tuple[Callable[[Claims, Json], Complaints], ...]] = (
    _kind, _versions, _dataset, _records, _parameters, _times, _gates, _verdict,
)  # fmt: skip
