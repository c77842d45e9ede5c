"""A certificate that has been touched anywhere does not verify, and the answer names the place."""

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from core.certificates import merkle, signing, verifying
from core.certificates.canonical import canonical
from core.certificates.shape import Claims
from core.certificates.verifying import ENOUGH, Rejected, verify, wrapped
from core.evaluation import matching
from tests.builders.evidence import ISSUER, JWKS, KEY, SALT, STEPS, claims, signed

CLAIMS = claims()
DOCUMENT = {**wrapped(CLAIMS, KEY.kid), "claims": CLAIMS, "jws": signed(CLAIMS)}
Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value but its root: objects, lists and leaves."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*at, name)
        yield from places(inner, (*at, name))


def parent(value: Any, place: Place) -> Any:
    for name in place[:-1]:
        value = value[name]
    return value


def changed(value: Any) -> Any:
    """Something else of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return ("0" if value[:1] != "0" else "1") + value[1:]
        case None:
            return 0
        case dict():
            return {**value, "added": 1}
        case _:
            return [*value, 1]


def rejected(text: str, keys: Any = JWKS) -> str:
    with pytest.raises(Rejected) as refused:
        verify(text, keys)
    return refused.value.field


def edited(document: Any, place: Place, *, remove: bool = False) -> str:
    copied = copy.deepcopy(document)
    owner = parent(copied, place)
    if remove:
        del owner[place[-1]]
    else:
        owner[place[-1]] = changed(owner[place[-1]])
    return json.dumps(copied)


def test_it_holds_as_json_and_as_jws() -> None:
    assert CLAIMS["kind"] == "certificate"
    for text in (json.dumps(DOCUMENT), DOCUMENT["jws"], f"{DOCUMENT['jws']}\n"):
        found = verify(text, JWKS, issuer=ISSUER)
        assert (found.claims.jti, found.kid) == ("crt_1", KEY.kid)


def test_every_field_of_the_json_form_is_bound() -> None:
    """Changed, removed, or with something added: every place of the document, several hundred of them."""
    tried = 0
    for place in places(DOCUMENT):
        for remove in (False, True):
            field = rejected(edited(DOCUMENT, place, remove=remove))
            pointer = "/" + "/".join(str(part) for part in place)
            assert field == "signature" or pointer.startswith(field) or field.startswith(pointer), (pointer, field)
            tried += 1
    assert tried > 400
    assert rejected(json.dumps({**DOCUMENT, "added": 1})) == "/added"


def test_every_field_of_the_signed_form_is_bound() -> None:
    """The payload altered with the signature left as it was."""
    header, _, signature = DOCUMENT["jws"].split(".")
    for place in places(CLAIMS):
        payload = base64.urlsafe_b64encode(canonical(json.loads(edited(CLAIMS, place)))).decode().rstrip("=")
        assert rejected(f"{header}.{payload}.{signature}") == "signature"


def test_every_byte_of_the_token_is_bound() -> None:
    token = DOCUMENT["jws"]
    header = token.index(".")
    for at in [*range(header + 1), len(token) // 2, *range(token.rindex("."), len(token))]:
        other = "A" if token[at] != "A" else "B"
        assert rejected(token[:at] + other + token[at + 1 :]) in ("signature", "file"), at
        assert rejected(token[:at] + token[at + 1 :]) in ("signature", "file"), at


def test_no_claim_may_be_missing_or_of_another_kind_even_when_signed_by_the_issuer() -> None:
    for name in Claims.model_fields:
        without = {key: value for key, value in CLAIMS.items() if key != name}
        assert rejected(signed(without)) == f"/{name}"
        other_kind = 1 if isinstance(CLAIMS[name], str) else "text"
        assert rejected(signed({**CLAIMS, name: other_kind})) == f"/{name}"
    assert rejected(signed({**CLAIMS, "added": 1})) == "/added"
    shaped = ("model", "base", "published", "dataset", "records", "run", "policy", "ledger")
    for place in (
        place for name in shaped for place in places(CLAIMS[name], (name,)) if place[:2] != ("policy", "settings")
    ):
        if isinstance(place[-1], str):
            assert rejected(signed(json.loads(edited(CLAIMS, place, remove=True)))).startswith(f"/{place[0]}")


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("kind",), "report", "/kind"),
        (("statement",), "All is well.", "/statement"),
        (("not_proven",), ["Nothing."], "/not_proven"),
        (("verdict",), "passed", "/verdict"),
        (("verdict_reasons",), ["Fine."], "/verdict_reasons"),
        (("published",), None, "/kind"),
        (("published", "version"), 1, "/published/version"),
        (("published", "digest"), "0" * 64, "/published/digest"),
        (("base", "files", 0, "sha256"), "0" * 64, "/base/digest"),
        (("dataset", "after"), "0" * 64, "/dataset/after"),
        (("dataset", "selection", "retain"), "0" * 64, "/dataset/before"),
        (("records", "root"), "0" * 64, "/records/root"),
        (("records", "count"), 2, "/records/count"),
        (("records", "digests", 0), "f" * 64, "/records/digests"),
        (("seed",), 8, "/seed"),
        (("method",), "npo", "/method"),
        (("iat",), 1, "/iat"),
        (("run", "status"), "failed", "/published"),
        (("error",), {"code": "x", "message": "y"}, "/error"),
        (("gates", 0, "status"), "failed", "/gates/0/status"),
        (("gates", 0, "passed"), False, "/gates/0/passed"),
        (("gates", 0, "limit"), 5.0, "/gates/0/limit"),
        (("gates", 0, "value"), 0.5, "/gates/0/value"),
        (("gates", 0, "name"), "niceness", "/gates/0/name"),
        (("metrics", "controls"), {}, "/kind"),
        (("metrics", "controls", "no_op", "verdict"), "passed", "/kind"),
        (("metrics", "controls", "placebo", "verdict"), None, "/kind"),
        (("metrics", "after", "measurements", "gap_closed", "low"), 0.8, "/gates/1/low"),
    ],
)
def test_claims_that_contradict_each_other_are_rejected_even_when_signed_by_the_issuer(
    place: Place, value: Any, field: str
) -> None:
    copied = copy.deepcopy(CLAIMS)
    parent(copied, place)[place[-1]] = value
    assert rejected(signed(copied)) == field


def test_without_a_matched_holdout_nothing_has_passed() -> None:
    assert ENOUGH == matching.ENOUGH
    for share, holds in ((ENOUGH, True), (ENOUGH - 0.01, False)):
        made = signed({**CLAIMS, "metrics": {**CLAIMS["metrics"], "matching": {"matched_share": share}}})
        assert (verify(made, JWKS).claims.jti == "crt_1") if holds else (rejected(made) == "/verdict")


def test_weights_that_are_the_base_versions_are_not_certified() -> None:
    unchanged = {**CLAIMS["base"], "version": 2}
    assert rejected(signed({**CLAIMS, "published": unchanged})) == "/published/digest"


def test_another_key_does_not_pass_for_the_issuers() -> None:
    other = signing.new_key()
    named_alike = signing.OKPKey.import_key({**other.as_dict(private=True), "kid": KEY.kid})
    assert rejected(signing.sign(canonical(CLAIMS), named_alike)) == "signature"
    assert rejected(signing.sign(canonical(CLAIMS), other)) == "signature"
    assert rejected(DOCUMENT["jws"], {"keys": [signing.public(other)]}) == "signature"
    assert verify(DOCUMENT["jws"], {"keys": [signing.public(other), signing.public(KEY)]}).kid == KEY.kid
    with pytest.raises(Rejected, match="not by https://other"):
        verify(DOCUMENT["jws"], JWKS, issuer="https://other.example")


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": [1]}, [], {"keys": [{"kty": "RSA"}]}, None])
def test_a_broken_key_set_verifies_nothing(keys: Any) -> None:
    assert rejected(DOCUMENT["jws"], keys) == "signature"


@pytest.mark.parametrize("alg", ["none", "HS256", "Ed25519"])
def test_only_one_algorithm_is_accepted(alg: str) -> None:
    _, payload, signature = DOCUMENT["jws"].split(".")
    header = {"alg": alg, "kid": KEY.kid, "typ": signing.TYPE}
    forged = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    assert rejected(f"{forged}.{payload}.{signature}") == "signature"


@pytest.mark.parametrize(
    "payload", [b"[]", b"not json", b'{"a":1,"a":2}', b'{ "a": 1}', b'{"a":NaN}', b"\xff", b'"certificate"']
)
def test_a_signed_payload_must_be_one_canonical_object(payload: bytes) -> None:
    assert rejected(signing.sign(payload, KEY)) in ("payload", "/format")


@pytest.mark.parametrize("text", ["", "{}", '{"jws": 1}', "{", '{"jws": "a.b.c", "jws": "a.b.c"}', "hello"])
def test_what_is_no_certificate_is_rejected_with_a_reason(text: str) -> None:
    assert rejected(text)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "certificate"),
        ({"verdict": None, "gates": [], "verdict_reasons": []}, "report"),
        ({"metrics": None, "gates": [], "verdict": None, "verdict_reasons": []}, "report"),
        (
            {
                "status": "failed",
                "published_version": None,
                "error": {"code": "rejected", "message": "A person rejected the result.", "comment": "no"},
            },
            "report",
        ),
        ({"selection": None, "worker": None, "hardness": None, "started_at": None}, "certificate"),
    ],
)
def test_success_is_certified_and_everything_else_is_reported(fields: dict[str, Any], kind: str) -> None:
    found = verify(signed(claims(**fields)), JWKS).claims
    assert found.kind == kind
    assert ("certifies nothing" in found.statement) == (kind == "report")


@pytest.mark.parametrize("word", ["failed", "inconclusive"])
def test_what_was_published_in_spite_of_its_verdict_is_only_reported(word: str) -> None:
    """The gates do not carry this word here, which the verifier notices as well."""
    made = claims(verdict=word)
    assert made["kind"] == "report"
    assert made["approvals"][0]["comment"] == "looks good"
    if word == "failed":
        assert rejected(signed(made)) == "/verdict"


def test_a_proof_shows_one_record_and_a_foreign_one_nothing() -> None:
    found = verify(DOCUMENT["jws"], JWKS).claims
    proof = merkle.prove(SALT, ["r-1", "r-2", "r-3"], "r-2")
    shown = {**vars_of(proof), "certificate_id": "crt_1"}
    assert verifying.check_proof(found, shown).record_id == "r-2"
    wrong = merkle.prove(SALT, ["r-1", "r-2", "r-9"], "r-9")
    for bad in (vars_of(wrong), {**shown, "record_id": "r-1"}, {**shown, "nonce": "zz"}, {**shown, "index": 9}, {}, 1):
        with pytest.raises(Rejected, match="proof"):
            verifying.check_proof(found, bad)  # type: ignore[arg-type]


def vars_of(proof: merkle.Proof) -> dict[str, Any]:
    return {name: getattr(proof, name) for name in proof.__slots__} | {"path": list(proof.path)}


def test_the_ledger_is_bound_by_its_digest() -> None:
    found = verify(DOCUMENT["jws"], JWKS).claims
    assert (found.ledger.steps, found.ledger.promised_forget_gain, found.ledger.realised_forget_gain) == (3, 0.75, 1.25)
    verifying.check_ledger(found, [dict(step) for step in STEPS])
    with pytest.raises(Rejected, match="/ledger/sha256"):
        verifying.check_ledger(found, [dict(step) for step in STEPS[:2]])
