"""After a full run no identity stands anywhere: database, logs, queue, messages, certificates, answers, objects, and no
secret either, nor in the list of processes.

Record ids and subjects are what the index is for: the columns that may hold them are listed here.
"""

import base64
import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.platform.database import open_engine
from tests.builders.models import Built
from tests.builders.service import Customer, Receiver, Service
from tests.builders.traces import RedisTap, columns_with, objects, places_with, spellings
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.e2e

RECORD_COLUMNS = {
    "deletion_records.record_id",
    "record_identities.record_id",
    "records.record_id",
    "model_versions.metrics",
    "run_records.record_id",
    "run_scores.record_id",
    "run_scores.row",
    "runs.metrics",
}
"""Where record ids may stand: the index, what requests and runs cover, and the scores and worst records of a run."""
SUBJECT_COLUMNS = {"records.subject_id"}
"""Where subjects may stand."""


class Person(NamedTuple):
    """One of the people in the data; ``identities`` are nowhere, ``subject`` and ``records`` in their columns only."""

    number: int

    @property
    def email(self) -> str:
        return f"Quorbledorf.{self.number:02d}@Zyxwin.example"

    @property
    def customer_id(self) -> str:
        return f"CUST-zyxwin/{self.number:02d}"

    @property
    def subject(self) -> str:
        return f"Zyxwin Quorbledorf {self.number:02d}"

    @property
    def hashes(self) -> tuple[str, str]:
        """What a caller sends who does not send the value."""
        return _sha256(self.email.lower()), _sha256(self.customer_id)


HASTY = {"parameters": {"max_steps": 2, "panel": "basic"}, "batch_size": 3, "batch_window_s": 4}
"""How well is forgotten does not matter here. Three people are forgotten in a first run, and one in a second."""
PEOPLE = [Person(number) for number in range(40)]
NOBODY = Person(99)


def _sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _digest_spellings(hex_digest: str) -> list[bytes]:
    raw = bytes.fromhex(hex_digest)
    return [hex_digest.encode(), hex_digest.upper().encode(), raw, base64.b64encode(raw), base64.urlsafe_b64encode(raw)]


def _identities() -> list[bytes]:
    """Every spelling of every identity and of its plain hash, which anybody could guess."""
    people = [*PEOPLE, NOBODY]
    values = itertools.chain.from_iterable((person.email, person.customer_id) for person in people)
    hashes = itertools.chain.from_iterable(person.hashes for person in people)
    return [*itertools.chain(*map(spellings, values)), *itertools.chain(*map(_digest_spellings, hashes))]


def _with_people(built: Built, folder: Path) -> Built:
    """The same records, of people with names and addresses."""
    rows = pq.read_table(built.records).to_pylist()
    for row in rows:
        row["record_id"] = row["record_id"].replace("digit", "zyx-rec")
        person = Person(int(row["subject_id"].removeprefix("writer-"))) if row["subject_id"] else None
        row["subject_id"] = person.subject if person else None
        row["email"], row["customer"] = (person.email, person.customer_id) if person else (None, None)
    records = folder / "records.parquet"
    pq.write_table(pa.Table.from_pylist(rows), records)
    identities = {"email": "email", "controller_customer_id": "customer"}
    return replace(built, records=records, columns={**built.columns, "identities": identities})  # pyright: ignore


def _records_of(built: Built, person: Person) -> int:
    rows = pq.read_table(built.records).to_pylist()
    return sum(row["subject_id"] == person.subject for row in rows)


def _asked(customer: Customer, *identities: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    body = {
        "model": "zyx",
        "identities": [dict(zip(("type", "value", "format"), one, strict=True)) for one in identities],
    }
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return customer.post("/v1/deletion-requests", {**body, **more}, expect=202, **headers)


def _refusals(customer: Customer, person: Person) -> dict[str, bytes]:
    """What bad requests that name a person are answered."""
    http, email = customer.http, person.email
    opendsr = {"subject_request_id": email, "subject_identities": [{"identity_type": "email", "identity_value": email}]}
    wrong = {"type": "email", "value": email, "format": "sha256"}
    answers = {
        "unknown records": http.post("/v1/deletion-requests", json={"model": "zyx", "record_ids": [email, "nobody"]}),
        "no hash": http.post("/v1/deletion-requests", json={"model": "zyx", "identities": [wrong]}),
        "no list": http.post("/v1/deletion-requests", json={"model": "zyx", "identities": email}),
        "no model": http.post("/v1/deletion-requests", json={"model": email, "subject_ids": [person.subject]}),
        "no JSON": http.post(
            "/v1/deletion-requests", content=f'{{"{email}', headers={"Content-Type": "application/json"}
        ),
        "surprise": http.post("/v1/hardness-assessments", json={"model": "zyx", email: [email]}),
        "no path": http.get(f"/v1/{email}"),
        "no record": http.get(f"/v1/datasets/zyx/records/{email}"),
        "no cursor": http.get("/v1/deletion-requests", params={"cursor": email}),
        "no request id": http.get("/v1/whoami", headers={"X-Request-Id": email}),
        "no key": http.get("/v1/whoami", headers={"Authorization": f"Bearer {email}"}),
        "no OpenDSR": http.post("/opendsr/v2/requests", json=opendsr),
    }
    assert all(answer.is_error for name, answer in answers.items() if name != "no request id"), answers
    return {name: answer.content + str(answer.headers).encode() for name, answer in answers.items()}


def _certificates(customer: Customer) -> dict[str, bytes]:
    """Every form of every certificate, and what its signature covers."""
    forms: dict[str, bytes] = {}
    for listed in customer.get("/v1/certificates")["data"]:
        for form in ("application/json", "application/jose", "text/html"):
            content = customer.http.get(f"/v1/certificates/{listed['id']}", headers={"Accept": form}).content
            forms[f"{listed['id']} {form}"] = content
        header, payload, _ = customer.http.get(
            f"/v1/certificates/{listed['id']}", headers={"Accept": "application/jose"}
        ).text.split(".")
        for name, part in (("header", header), ("payload", payload)):
            forms[f"{listed['id']} {name}"] = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return forms


def _files(service: Service) -> dict[str, bytes]:
    """What processes have written on this machine: their logs, and what is left of their work."""
    files = [path for path in service.folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


def _secrets(service: Service, customer: Customer) -> list[bytes]:
    """What must stay between the service and its environment, and the key that the customer holds."""
    names = ("SECRET", "DATABASE__URL", "BROKER__URL", "STORE__SECRET_ACCESS_KEY")
    _, key = customer.http.headers["Authorization"].split()
    return [*(service.environment[f"UNLEARN_{name}"].encode() for name in names), key.encode()]


def _command_lines(service: Service) -> dict[str, bytes]:
    """What a list of processes shows of the service and of all that it has started, a run's process included."""

    def shown() -> dict[str, bytes] | None:
        lines = _lines_of(psutil.Process(process.pid) for process in service.processes.values())
        return lines if any(b"worker.child" in line for line in lines.values()) else None

    return wait_until(shown, timeout_s=120, what="the process of a run") or {}


def _lines_of(parents: Iterable[psutil.Process]) -> dict[str, bytes]:
    lines: dict[str, bytes] = {}
    for process in itertools.chain.from_iterable((one, *one.children(recursive=True)) for one in parents):
        with suppress(psutil.NoSuchProcess):
            lines[f"command line {process.pid}"] = " ".join(process.cmdline()).encode()
    return lines


def _task_arguments(seen: bytes) -> list[Any]:
    """The arguments of every task that went to the broker, by position and by name."""
    bodies = re.findall(rb'\\"body\\": \\"([A-Za-z0-9+/=]+)\\"', seen)
    return [json.loads(base64.b64decode(body))[:2] for body in bodies]


def _is_one_id(ids: list[Any], named: dict[str, Any]) -> bool:
    return len(ids) == 1 and not named and re.fullmatch(r"(run|hrd)_[0-9a-z]{26}", str(ids[0])) is not None


def _opendsr_erasure(customer: Customer, person: Person, callback: str) -> str:
    body = {
        "regulation": "gdpr",
        "subject_request_id": str(uuid.uuid4()),
        "subject_request_type": "erasure",
        "submitted_time": "2020-01-01T00:00:00Z",
        "subject_identities": [{"identity_type": "email", "identity_value": person.email, "identity_format": "raw"}],
        "status_callback_urls": [callback],
    }
    customer.post("/opendsr/v2/requests", body, expect=201)
    return body["subject_request_id"]


def _all_done(customer: Customer) -> bool:
    """Whether every request has been completed; a result that is put before a person is approved."""
    requests = customer.get("/v1/deletion-requests")["data"]
    for request in requests:
        if request["status"] == "needs_review":
            # One approval may have settled all requests of the run, so that the next ones are refused.
            customer.http.post(f"/v1/deletion-requests/{request['id']}/approve", json={"comment": "seen"})
    return {request["status"] for request in requests} == {"completed"}


def test_no_identity_is_kept_anywhere(service: Service, digits: Built, tmp_path: Path) -> None:
    built = _with_people(digits, tmp_path)
    customer = service.customer("zyxwin")
    raw, hashed, by_opendsr, by_subject, quoted = PEOPLE[3:8]
    with Receiver() as receiver, Receiver() as controller, RedisTap(service.redis_url) as queue:
        customer.register("zyx", built)
        customer.put("/v1/policies/default", HASTY)
        every = ["deletion_request.*", "run.*", "model_version.*", "certificate.*", "report.*", "hardness_assessment.*"]
        customer.post("/v1/webhook-endpoints", {"url": receiver.url, "events": every}, expect=201)
        unknown = _asked(customer, ("email", NOBODY.email, "raw"))
        assert (unknown["record_count"], customer.wait_request(unknown["id"])["status"]) == (0, "completed")
        subject_request = _opendsr_erasure(customer, by_opendsr, controller.url)
        by_hash = zip(("email", "controller_customer_id"), hashed.hashes, ("sha256", "sha256"), strict=True)
        requests = [
            _asked(customer, ("email", f"  {raw.email.upper()} ", "raw")),
            _asked(customer, *by_hash),
            _asked(customer, subject_ids=[by_subject.subject]),
        ]
        expected = [_records_of(built, person) for person in (raw, hashed, by_subject)]
        assert [request["record_count"] for request in requests] == expected
        quote = customer.post("/v1/hardness-assessments", {"model": "zyx", "subject_ids": [quoted.subject]}, expect=202)
        command_lines = _command_lines(service)
        wait_until(lambda: _all_done(customer), timeout_s=240, what="the end of all requests")
        refusals = _refusals(customer, raw)

        def told() -> bool:
            found = customer.get(f"/opendsr/v2/requests/{subject_request}")
            assessed = customer.get(f"/v1/hardness-assessments/{quote['id']}")["status"]
            return found["request_status"] == "completed" and assessed == "succeeded"

        wait_until(told, timeout_s=240, what="the end of everything")
        wait_until(lambda: any(b'"completed"' in body for _, body in controller.received), what="the last callback")
        wait_until(lambda: customer.get("/v1/certificates")["data"], what="a certificate")
        wait_until(lambda: receiver.of_type("deletion_request.completed"), what="a webhook")

    engine = open_engine(service.database_url, pool_size=1)
    seen = {
        "metrics": httpx.get(f"{service.url}/metrics").content,
        "queue": queue.seen,
        **command_lines,
        **refusals,
        **_certificates(customer),
        **_files(service),
        **{f"webhook {i}": str(sent).encode() for i, sent in enumerate(receiver.received)},
        **{f"callback {i}": str(sent).encode() for i, sent in enumerate(controller.received)},
        **{key: content for key, content in objects(service.s3) if Path(key).name != built.records.name},
    }
    assert b"runs.execute" in seen["queue"]
    assert len(command_lines) > len(service.processes)
    tasks = _task_arguments(queue.seen)
    assert tasks
    assert [task for task in tasks if not _is_one_id(*task)] == []
    assert any(key.endswith("model.safetensors") for key in seen)

    assert columns_with(engine, _identities()) == set()
    assert places_with(seen, _identities()) == set()
    records, subjects = [b"zyx-rec-"], [b"Zyxwin Quorbledorf"]
    assert columns_with(engine, records) == RECORD_COLUMNS
    assert columns_with(engine, subjects) == SUBJECT_COLUMNS
    assert places_with(seen, [*records, *subjects]) == set()
    secrets = _secrets(service, customer)
    assert columns_with(engine, secrets) == set()
    assert places_with(seen, secrets) == set()
    engine.dispose()
