"""What the fault tests look at can be broken: each breach is seen and named, and a sound service shows none."""

import json
from hashlib import sha256

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from core.platform.objects import MemoryStore
from core.registry.tables import ModelFile
from core.runs import finishing, service
from core.runs.tables import Run
from core.unlearning.job import Outcome, Progress, StoredFile
from core.webhooks.tables import WebhookDelivery, WebhookEndpoint, WebhookMessage
from tests.builders import invariants
from tests.builders.estate import AT, estate
from tests.builders.invariants import Expected, violations

pytestmark = pytest.mark.integration
WEIGHTS = b"new weights"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("file:///")


@pytest.fixture
def sound(tx: Session, store: MemoryStore) -> Expected:
    """A request that a run has answered with a version, all of it certified, sent and in the store."""
    built = estate(tx)
    request = built.submit(tx, "r-0").request
    service.plan_next(tx, at=AT)
    lease = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
    assert lease is not None
    rows = [{"step": step} for step in (1, 2, 3)]
    service.record(tx, lease=lease, latest=Progress("unlearning", 3, 3), steps=rows, ttl_s=60, at=AT)
    folder = store.uri(f"models/digits/v2/{lease.row_id}-1/")
    file = StoredFile("model.safetensors", f"{folder}model.safetensors", len(WEIGHTS), sha256(WEIGHTS).hexdigest())
    store.put_bytes(file.uri, WEIGHTS)
    store.put_bytes(f"{folder}manifest.json", b"{}")
    good = Outcome(stop_reason="target_reached", verdict="passed", staged=(file,))
    finishing.finish(tx, lease=lease, outcome=good, publish_uri=folder, max_attempts=3, at=AT)
    store.put_bytes(store.uri("nowhere/digits/v1/model.safetensors"), b"o")
    original = sha256(b"o").hexdigest()
    tx.execute(update(ModelFile).where(ModelFile.uri.like("file:///nowhere/%")).values(sha256=original))
    tx.execute(text("update outbox set sent_at = now()"))
    _certify(tx, lease.row_id)
    body = _message(tx, built.workspace_id)
    tx.flush()
    received = [({"webhook-id": "msg_1"}, body)] * 2
    return Expected([request.id], {built.models["digits"]: {"model.safetensors": original}}, received)


def _certify(tx: Session, run_id: str) -> None:
    tx.execute(text("insert into signing_keys (kid, public, sealed_private) values ('k', '{}', '')"))
    certificate = (
        "insert into certificates (id, workspace_id, run_id, kind, jws, kid, sealed_salt)"
        " select 'cert_1', workspace_id, id, 'report', 'x', 'k', '' from runs where id = :run_id"
    )
    tx.execute(text(certificate), {"run_id": run_id})


def _message(tx: Session, workspace_id: str, number: int = 1) -> bytes:
    body = json.dumps({"type": "run.succeeded", "data": {"id": "run_1"}}).encode()
    if number == 1:
        tx.add(WebhookEndpoint(id="whe_1", workspace_id=workspace_id, url="http://x", events=[], sealed_secret=b""))
    tx.add(WebhookMessage(id=f"msg_{number}", workspace_id=workspace_id, type="run.succeeded", body=body))
    tx.flush()
    tx.add(WebhookDelivery(message_id=f"msg_{number}", endpoint_id="whe_1", status="delivered"))
    return body


def test_a_sound_service_breaks_nothing(tx: Session, store: MemoryStore, sound: Expected) -> None:
    assert violations(tx, store, sound, swept=True) == []


BREACHES = {
    "requests_that_did_not_end": ("update deletion_requests set status = 'in_progress'", "is in_progress"),
    "records_in_the_wrong_state": ("update records set state = 'active'", "is not erased"),
    "runs_left_open": ("update runs set lease_until = now()", "leased"),
    "wrong_numbers_of_versions": ("update model_versions set run_id = null", "has published the versions []"),
    "gaps": ("update model_versions set version = 3 where version = 2", "has the versions [1, 3]"),
    "wrong_aliases": ("update model_aliases set version = 1 where alias = 'latest'", "leads to 1 of [1, 2]"),
    "broken_timelines": ("delete from run_events where sequence = 2", "has the numbers [1, 3"),
    "incomplete_ledgers": ("delete from run_steps where step = 2", "has the steps [1, 3]"),
    "missing_certificates": ("delete from certificates", "has 0 certificates"),
    "lost_messages": ("update outbox set sent_at = null where topic = 'task'", "messages runs.execute wait"),
    # By somebody who gets around the trigger that refuses it.
    "broken_audit_chains": (
        "set local session_replication_role = replica; update audit_events set action = 'x'",
        "breaks at line 1",
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_in_the_database_is_named(tx: Session, store: MemoryStore, sound: Expected, name: str) -> None:
    statement, words = BREACHES[name]
    tx.execute(text(statement))
    tx.expire_all()
    found = list(getattr(invariants, name)(tx, *([sound.accepted] if name.startswith("requests") else [])))
    assert any(words in one for one in found), found
    assert set(found) <= set(violations(tx, store, sound))


def test_what_only_callers_know_is_compared(tx: Session, store: MemoryStore, sound: Expected) -> None:
    (model_id,) = sound.originals
    lost = Expected(["dr_lost"], {model_id: {"model.safetensors": "0" * 64}}, [])
    assert violations(tx, store, lost) == [
        "request dr_lost was accepted and is not there",
        f"the first version of model {model_id} is not what was uploaded",
        "message msg_1 (run.succeeded) is delivered after 0 attempts",
    ]
    other = Expected(sound.accepted, sound.originals, [({"webhook-id": "msg_1"}, b"other")])
    assert violations(tx, store, other) == ["message msg_1 (run.succeeded) arrived with other bytes"]


def test_an_event_with_two_messages_is_seen(tx: Session, store: MemoryStore, sound: Expected) -> None:
    workspace_id = str(tx.scalar(select(Run.workspace_id)))
    body = _message(tx, workspace_id, 2)
    tx.flush()
    twice = Expected(sound.accepted, sound.originals, [*sound.received, ({"webhook-id": "msg_2"}, body)])
    (found,) = violations(tx, store, twice)
    assert found.startswith("2 messages say")


def test_files_that_are_missing_altered_or_nobodys_are_seen(tx: Session, store: MemoryStore, sound: Expected) -> None:
    (uri,) = [info.uri for info in store.list(store.uri("models/")) if info.uri.endswith("safetensors")]
    store.place(uri, b"x")
    store.delete([store.uri("nowhere/digits/v1/model.safetensors")])
    store.put_bytes(store.uri("models/digits/v2/run_x-2/model.safetensors"), b"left behind")
    assert set(violations(tx, store, sound, swept=True)) == {
        "file:///nowhere/digits/v1/model.safetensors is missing",
        f"{uri} is not as it was published",
        "file:///models/digits/v2/run_x-2/model.safetensors belongs to no version",
    }
