"""What a controller sends and is answered: routes, signatures, replay, errors."""

import base64
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import Engine

from core.opendsr.identities import PAIRS
from core.platform import self_signed
from tests.builders.opendsr import ADA, BASE, Scene, erasure, new_id, openssl_accepts, sha256, signed
from tests.builders.web import DOMAIN, Web, new_key, web

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


def test_discovery_and_certificate_are_public_and_cacheable(scene: Scene, tmp_path: Path) -> None:
    for base in (BASE, "/opendsr"):
        found = scene.anyone.get(f"{base}/discovery")
        body = signed(found, scene)
        assert found.headers["cache-control"] == "public, max-age=3600"
        assert body["api_version"] == "2.0"
        assert body["supported_subject_request_types"] == ["erasure"]
        pairs = {(one["identity_type"], one["identity_format"]) for one in body["supported_identities"]}
        assert pairs == set(PAIRS)
        path = body["processor_certificate"].removeprefix("http://127.0.0.1:8000")
        certificate = scene.anyone.get(path)
        assert certificate.headers["content-type"].startswith("application/pem-certificate-chain")
        assert certificate.headers["cache-control"] == "public, max-age=3600"
        assert openssl_accepts(tmp_path, found.content, found.headers["x-opendsr-signature"], certificate.text)
    leaf = x509.load_pem_x509_certificate(certificate.content)
    assert leaf.subject.rfc4514_string() == f"CN={DOMAIN}"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DOMAIN]


def test_a_receipt_holds_the_very_bytes_and_is_signed(scene: Scene, tmp_path: Path) -> None:
    raw = json.dumps(erasure(note="caf\u00e9"), indent=3).replace("gdpr", "gd\\u0070r").encode() + b"\n"
    answer = scene.caller.post(f"{BASE}/requests/", content=raw, headers={"Content-Type": "Application/JSON; x=y"})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    receipt = signed(answer, scene)
    assert base64.b64decode(receipt["encoded_request"], validate=True) == raw
    assert receipt["controller_id"] == scene.built.workspace_id
    assert receipt["received_time"].endswith("Z")
    assert receipt["expected_completion_time"] >= receipt["received_time"]
    assert set(receipt) == {
        "controller_id", "subject_request_id", "received_time", "expected_completion_time", "encoded_request",
        "api_version",
    }  # fmt: skip
    assert answer.content == json.dumps(receipt, separators=(",", ":")).encode()
    assert openssl_accepts(tmp_path, answer.content, answer.headers["x-opendsr-signature"], scene.signer.pem)
    assert not openssl_accepts(tmp_path, answer.content + b" ", answer.headers["x-opendsr-signature"], scene.signer.pem)


def test_a_receipt_names_the_certificate_and_old_ones_stay(scene: Scene, tmp_path: Path) -> None:
    first = scene.create()["subject_request_id"]
    shown = scene.caller.get(f"/v1/opendsr-requests/{first}").json()
    old = scene.signer
    assert shown["certificate_fingerprint"] == old.fingerprint
    pair = self_signed.pair(tmp_path, DOMAIN, bits=2048)
    files = {"certificate_file": str(pair.certificate_file), "private_key_file": str(pair.private_key_file)}
    rotated = Web(web(scene.engine, scene.clock, opendsr=files).app, scene.engine, scene.caller.headers)
    assert rotated.get(f"{BASE}/certificate.pem").text != old.pem
    assert rotated.get(f"{BASE}/certificates/{old.fingerprint}.pem").text == old.pem
    assert rotated.get(f"{BASE}/certificates/{'0' * 64}.pem").status_code == 404


def test_every_spelling_of_a_path_is_answered_directly(scene: Scene) -> None:
    for path in ("/opendsr/v2/requests", "/opendsr/v2/requests/", "/opendsr/requests", "/opendsr/requests/"):
        receipt = scene.caller.post(path, erasure())
        assert receipt.status_code == 201, path
        made = receipt.json()["subject_request_id"]
        for base in ("/opendsr/v2", "/opendsr"):
            for noun in ("requests", "status", "opengdpr_requests"):
                for slash in ("", "/"):
                    assert scene.caller.get(f"{base}/{noun}/{made}{slash}").status_code == 200
        assert scene.caller.delete(f"{path.rstrip('/')}/{made}/").status_code == 202


def test_the_old_form_needs_no_law_and_signs_under_both_names(scene: Scene) -> None:
    body = erasure(api_version="1.0")
    del body["regulation"]
    assert scene.caller.post(f"{BASE}/requests", body).status_code == 400
    answer = scene.caller.post("/opendsr/opengdpr_requests", body)
    assert answer.status_code == 201
    assert signed(answer, scene) == signed(answer, scene, "OpenGDPR")
    new_route = scene.caller.get(f"{BASE}/requests/{body['subject_request_id']}")
    signed(new_route, scene, "OpenGDPR")
    cancelled = scene.caller.delete(f"{BASE}/opengdpr_requests/{body['subject_request_id']}")
    assert cancelled.status_code == 202
    signed(cancelled, scene, "OpenGDPR")
    plain = scene.caller.get(f"{BASE}/requests/{scene.create()['subject_request_id']}")
    assert "x-opengdpr-signature" not in plain.headers


def test_the_same_value_again_is_the_first_receipt_and_no_second_job(scene: Scene) -> None:
    body = erasure(status_callback_urls=["https://a.example/cb"])
    first = scene.caller.post(f"{BASE}/requests", body)
    scene.clock.now += scene.clock.now.resolution * 5_000_000
    again = json.dumps(dict(reversed(body.items())), indent=1).encode()
    second = scene.caller.post(f"{BASE}/requests", content=again, headers=JSON)
    assert (second.status_code, second.headers["idempotent-replayed"]) == (201, "true")
    assert "idempotent-replayed" not in first.headers
    one, two = first.json(), signed(second, scene)
    assert base64.b64decode(two.pop("encoded_request")) == again
    del one["encoded_request"]
    assert one == two
    assert scene.sql("select count(*) from deletion_requests") == [(1,)]
    assert scene.sql("select count(*) from opendsr_events") == [(1,)]
    other = scene.caller.post(f"{BASE}/requests", {**body, "regulation": "ccpa"})
    assert other.status_code == 409
    assert signed(other, scene)["error"]["errors"][0]["reason"] == "SubjectRequestIdTaken"
    assert scene.status(body["subject_request_id"])["expected_completion_time"] == one["expected_completion_time"]


def test_one_id_many_times_at_once_is_taken_once(scene: Scene) -> None:
    bodies: list[dict[str, Any]] = []
    for law in ("gdpr", "ccpa"):
        bodies += [erasure("0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10", regulation=law)] * 3
    barrier = threading.Barrier(len(bodies))

    def post(body: dict[str, Any]) -> tuple[int, bool]:
        barrier.wait()
        answer = scene.caller.post(f"{BASE}/requests", body)
        return answer.status_code, "idempotent-replayed" in answer.headers

    with ThreadPoolExecutor(len(bodies)) as pool:
        results = list(pool.map(post, bodies))
    assert results.count((201, False)) == 1
    assert results.count((201, True)) == 2
    assert results.count((409, False)) == 3
    assert scene.sql("select count(*) from deletion_requests") == [(1,)]


def test_nothing_of_an_identity_is_kept_or_told(scene: Scene) -> None:
    made = scene.create(status_callback_urls=["https://a.example/cb"])["subject_request_id"]
    scene.caller.delete(f"{BASE}/requests/{made}")
    tables = scene.sql("select table_name from information_schema.tables where table_schema = 'public'")
    spellings = (ADA, sha256(ADA), base64.b64encode(ADA.encode()).decode().rstrip("="))
    for (table,) in tables:
        rows = scene.sql(f"select t::text, row_to_json(t)::text from {table} t")  # noqa: S608
        for row in rows:
            assert not any(spelling in str(row).lower() for spelling in map(str.lower, spellings)), table
    hidden = scene.sql(
        "select encode(body, 'escape'), encode(body_digest, 'escape') from opendsr_events, opendsr_requests"
    )
    assert hidden
    assert ADA not in str(hidden)


def test_hashes_and_values_find_the_same_records(scene: Scene) -> None:
    for value, form in ((" ADA@Example.ORG ", "raw"), (sha256(ADA).upper(), "sha256")):
        wanted = [{"identity_type": "email", "identity_value": value, "identity_format": form}]
        made = scene.create(subject_identities=wanted)["subject_request_id"]
        native = scene.finer(made)["request_id"]
        assert scene.caller.get(f"/v1/deletion-requests/{native}").json()["record_count"] == 2
        scene.caller.delete(f"{BASE}/requests/{made}")


def test_unknown_people_and_records_are_taken_in_the_same_way(scene: Scene) -> None:
    nobody = [{"identity_type": "email", "identity_value": "nobody@example.org", "identity_format": "raw"}]
    known, unknown = scene.create(), scene.create(subject_identities=nobody)
    unknown_record = scene.create(subject_identities=None, extensions={DOMAIN: {"record_ids": ["r-9999"]}})
    assert set(known) == set(unknown) == set(unknown_record)
    said = [scene.status(one["subject_request_id"]) for one in (known, unknown, unknown_record)]
    assert {(one["request_status"], one["extensions"][DOMAIN]["state"]) for one in said} == {("pending", "held")}


def test_another_tenants_id_is_unknown_and_may_be_used_again(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    stranger = scene.anyone.customer("stranger")
    for method in ("GET", "DELETE"):
        assert stranger.call(method, f"{BASE}/requests/{made}").status_code == 404
    assert stranger.post(f"{BASE}/requests", erasure(made)).status_code == 201
    assert scene.status(made)["request_status"] == "pending"


def test_credentials_come_first_and_bearer_and_basic_both_serve(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    for path in (f"{BASE}/requests/{made}", f"{BASE}/requests/{new_id()}", f"{BASE}/requests/x"):
        answer = scene.anyone.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
        assert answer.headers["www-authenticate"]
        assert signed(answer, scene)["error"]["code"] == 401
    huge = scene.anyone.post(f"{BASE}/requests", content=b"x" * 2_000_000, headers={"Content-Type": "text/plain"})
    assert huge.status_code == 401
    key = new_key(scene.engine, scene.built.workspace_id)
    pair = base64.b64encode(f"{key.key.id}:{key.secret}".encode()).decode()
    basic = scene.anyone.get(f"{BASE}/requests/{made}", headers={"Authorization": f"Basic {pair}"})
    assert basic.status_code == 200
    weak = scene.anyone.customer(scene.built.workspace_id, ["deletions:read"])
    assert weak.get(f"{BASE}/requests/{made}").status_code == 200
    for answer in (weak.post(f"{BASE}/requests", erasure()), weak.delete(f"{BASE}/requests/{made}")):
        assert answer.status_code == 403
        assert signed(answer, scene)["error"]["code"] == 403


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "", 404, None),
        ("GET", "/v2", 404, None),
        ("GET", "/v2/nothing", 404, None),
        ("POST", "/v1/requests", 404, None),
        ("GET", "/v2/requests/%00", 400, None),
        ("PUT", "/v2/requests/0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10", 405, "DELETE, GET"),
        ("PATCH", "/requests/0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10/", 405, "DELETE, GET"),
        ("DELETE", "/status/0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10", 405, "GET"),
        ("GET", "/v2/requests", 405, "POST"),
        ("POST", "/v2/discovery", 405, "GET"),
    ],
)
def test_failures_of_the_framework_come_in_the_standards_envelope(
    scene: Scene, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = scene.anyone.call(method, f"/opendsr{path}")
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == status
    assert error["message"]
    assert {"domain", "reason", "message"} == set(error["errors"][0])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-opendsr-signature"]
    assert answer.headers.get("allow") == allow


def test_bodies_that_cannot_be_taken(scene: Scene) -> None:
    def post(content: Any, kind: str | None = "application/json") -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": kind} if kind else {}
        answer = scene.caller.post(f"{BASE}/requests", content=content, headers=headers)
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, signed(answer, scene)["error"]

    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 65_536

    whole = json.dumps(erasure()).encode()
    assert post(whole, "text/plain")[0] == 415
    assert post(whole, None)[0] == 415
    assert post(whole + b" " * 1_048_577)[0] == 413
    assert post(endless())[0] == 413
    status, error = post(whole.replace(b"gdpr", b"secret-law").replace(ADA.encode(), b"\\u0000"))
    assert (status, error["errors"][0]["reason"]) == (400, "InvalidSubjectRequest")
    status, error = post(whole.replace(b"gdpr", b"secret-law"))
    assert status == 400
    assert error["errors"] == [
        {"domain": "Validation", "reason": "Unsupported", "message": "regulation must be one of ccpa, gdpr"}
    ]
    assert "secret" not in json.dumps(error)
    status, error = post(json.dumps(erasure(extensions={DOMAIN: {"model_ids": ["digits", "nope"]}})).encode())
    assert (status, re.findall(r"\[\d\]", error["errors"][0]["message"])) == (400, ["[1]"])
    assert scene.sql("select count(*) from opendsr_requests") == [(0,)]
    assert scene.sql("select count(*) from deletion_requests") == [(0,)]


def test_times_at_the_ends_of_the_calendar_are_recorded(scene: Scene) -> None:
    for submitted in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1999-01-01T00:00:00+14:00"):
        receipt = scene.create(submitted_time=submitted)
        assert receipt["expected_completion_time"] >= receipt["received_time"]
        scene.status(receipt["subject_request_id"])


def test_while_records_are_being_indexed_the_answer_is_to_come_again(scene: Scene) -> None:
    scene.sql("update datasets set status = 'indexing'")
    answer = scene.caller.post(f"{BASE}/requests", erasure())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert signed(answer, scene)["error"]["code"] == 503
    assert scene.sql("select count(*) from opendsr_requests") == [(0,)]


def test_a_service_without_certificate_says_that_it_has_no_opendsr(engine: Engine) -> None:
    off = web(engine, opendsr={"certificate_file": None, "private_key_file": None})
    answer = off.get(f"{BASE}/discovery")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
    assert off.get("/opendsrx").headers["content-type"] == "application/problem+json"
