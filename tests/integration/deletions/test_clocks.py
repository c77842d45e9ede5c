"""Deadlines of requests: by regulation, extended once, warned of exactly once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from core.access.service import workspace_named
from core.access.tables import AuditEvent
from core.deletions import service, terms
from core.deletions.errors import AlreadyExtended, DeadlineOver, NotExtendable, ReceivedInFuture, UnknownRegulation
from core.deletions.repository import Requests
from core.deletions.tables import DeletionRequest
from core.platform.database import transaction
from core.platform.errors import IllegalTransition
from core.platform.outbox import OutboxRow
from core.policies import service as policies
from core.webhooks.catalogue import event_type
from tests.builders.estate import AT, Estate, estate
from tests.builders.web import Clock, web
from worker.loops import deadlines

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
DUE = datetime(2025, 4, 1, 11, 12, 40, 120000, tzinfo=UTC)
"""A month after ``AT``."""


def events(tx: Session, *kinds: str) -> list[tuple[str, Any]]:
    rows = tx.scalars(select(OutboxRow).where(OutboxRow.topic == "event").order_by(OutboxRow.id))
    found = [(row.name.removeprefix("deletion_request."), row.payload["data"]) for row in rows]
    return [(name, data.get("share")) for name, data in found if name in kinds]


def warned(tx: Session) -> list[tuple[str, Any]]:
    return events(tx, "deadline_approaching", "overdue")


def extend(tx: Session, built: Estate, request: DeletionRequest, at: datetime) -> DeletionRequest:
    return service.extend(
        tx, workspace_id=built.workspace_id, request_id=request.id, reason="three models", actor="key_t", at=at
    ).request


def test_the_deadline_follows_from_regulation_and_receipt(tx: Session) -> None:
    built = estate(tx)
    received = AT - 10 * DAY
    cases: list[tuple[dict[str, Any], str | None, datetime | None]] = [
        ({"reason": "gdpr_art_17"}, "gdpr", DUE),
        ({"regulation": "ccpa", "reason": "gdpr_art_17"}, "ccpa", AT + 45 * DAY),
        ({"regulation": "ccpa", "received_at": received}, "ccpa", AT + 35 * DAY),
        ({"regulation": "gdpr", "due_at": AT + 3 * DAY}, "gdpr", AT + 3 * DAY),
        ({"due_at": AT + 3 * DAY}, None, AT + 3 * DAY),
        ({}, None, None),
    ]
    for fields, regulation, due in cases:
        request = built.submit(tx, "r-0", **fields).request
        assert (request.regulation, request.due_at) == (regulation, due), fields
        assert request.received_at == fields.get("received_at", AT)


def test_a_policys_own_regulation_counts_for_the_models_that_follow_it(tx: Session) -> None:
    built = estate(tx)
    body = {"regulations": {"lgpd": {"days": 15}}}
    policies.put(tx, workspace_id=built.workspace_id, name="brazil", body=body, actor="k", at=AT)
    with pytest.raises(UnknownRegulation, match="ccpa, gdpr are known"):
        built.submit(tx, "r-0", regulation="lgpd")
    assert built.submit(tx, "r-0", reason="lgpd_art_18", policy="brazil").request.due_at == AT + 15 * DAY
    built.add_model(tx, "leis", "digits", policy="brazil")
    request = built.submit(tx, "r-1", regulation="lgpd", model="leis").request
    assert request.due_at == AT + 15 * DAY
    with pytest.raises(NotExtendable):
        extend(tx, built, request, AT)


def test_nothing_was_received_in_the_future(tx: Session) -> None:
    built = estate(tx)
    with pytest.raises(ReceivedInFuture):
        built.submit(tx, "r-0", received_at=AT + DAY)
    assert built.submit(tx, "r-0", received_at=AT + timedelta(seconds=5)).request.received_at == AT


def test_an_extension_is_given_once_with_its_reason_and_told(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0", regulation="gdpr").request
    revision = request.revision
    extend(tx, built, request, AT + DAY)
    request = Requests(tx).get_for(built.workspace_id, request.id)
    assert request.due_at == datetime(2025, 6, 1, 11, 12, 40, 120000, tzinfo=UTC)
    assert (request.extended_at, request.extension_reason, request.revision) == (AT + DAY, "three models", revision + 1)
    assert [name for name, _ in events(tx, "extended")] == ["extended"]
    audited = tx.scalars(select(AuditEvent).where(AuditEvent.action == "deletion_request.extended")).one()
    assert audited.details == {
        "due_at": "2025-06-01T11:12:40.120Z",
        "due_at_before": "2025-04-01T11:12:40.120Z",
    }, "the reason is a person's words and stays in the timeline"
    with pytest.raises(AlreadyExtended):
        extend(tx, built, request, AT + 2 * DAY)


def test_what_cannot_be_extended(tx: Session) -> None:
    built = estate(tx)
    with pytest.raises(NotExtendable):
        extend(tx, built, built.submit(tx, "r-0", due_at=DUE).request, AT)
    with pytest.raises(DeadlineOver):
        extend(tx, built, built.submit(tx, "r-0", regulation="gdpr").request, DUE + DAY)
    done = built.submit(tx, regulation="gdpr", subject_ids=("nobody",)).request
    with pytest.raises(IllegalTransition):
        extend(tx, built, done, AT)


def test_each_warning_is_sent_once(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0", due_at=AT + 10 * DAY).request
    assert terms.warn_next(tx, at=AT + 4 * DAY) == []
    for days in (5, 5, 6, 8.5, 9):
        terms.warn_next(tx, at=AT + days * DAY)
    assert warned(tx) == [("deadline_approaching", 0.5), ("deadline_approaching", 0.8)]
    for days in (10, 10, 11):
        terms.warn_next(tx, at=AT + days * DAY)
    assert warned(tx)[2:] == [("deadline_approaching", 1.0), ("overdue", None)]
    timeline = [(one.type, one.sequence) for one in Requests(tx).events(request.id)]
    assert [kind for kind, _ in timeline] == ["created", *["deadline_approaching"] * 3, "overdue"]
    assert len({number for _, number in timeline}) == 5


def test_what_is_past_at_submission_is_told_at_once_and_what_has_ended_never(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0", received_at=AT - 60 * DAY, regulation="ccpa")
    built.submit(tx, subject_ids=("nobody",), received_at=AT - 60 * DAY, regulation="ccpa")
    terms.warn_next(tx, at=AT)
    assert [share for _, share in warned(tx)] == [0.5, 0.8, 1.0, None]


def test_an_extension_winds_the_clock_up_again(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0", regulation="ccpa").request
    terms.warn_next(tx, at=AT + 40 * DAY)
    extend(tx, built, request, AT + 40 * DAY)
    terms.warn_next(tx, at=AT + 44 * DAY)
    assert [share for _, share in warned(tx)] == [0.5, 0.8]
    terms.warn_next(tx, at=AT + 72 * DAY)
    assert [share for _, share in warned(tx)] == [0.5, 0.8, 0.5, 0.8]


def test_the_policy_says_when_to_warn(tx: Session) -> None:
    built = estate(tx)
    body = {"escalate_at": [0.9, 0.1]}
    policies.put(tx, workspace_id=built.workspace_id, name="late", body=body, actor="k", at=AT)
    built.submit(tx, "r-0", due_at=AT + 10 * DAY, policy="late")
    terms.warn_next(tx, at=AT + 9 * DAY)
    assert [share for _, share in warned(tx)] == [0.1, 0.9]


def test_warnings_fit_the_event_catalogue(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0", regulation="gdpr").request
    extend(tx, built, request, AT)
    terms.warn_next(tx, at=DUE + 90 * DAY)
    for row in tx.scalars(select(OutboxRow).where(OutboxRow.topic == "event")):
        known = event_type(row.name)
        assert known is not None
        assert set(known.required) <= set(row.payload["data"]), row.name


def test_old_copies_are_purged_once(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0").request
    revision = request.revision
    Requests(tx).mark_old_copies_purged([request.id], AT + DAY)
    Requests(tx).mark_old_copies_purged([request.id], AT + 2 * DAY)
    request = Requests(tx).get_for(built.workspace_id, request.id)
    assert (request.old_copies_purged_at, request.revision) == (AT + DAY, revision + 1)


def test_the_loop_says_whether_it_found_something(database: Engine) -> None:
    with transaction(database) as tx:
        estate(tx).submit(tx, "r-0", due_at=AT + DAY)
    assert not deadlines.turn(database, lambda: AT)
    assert deadlines.turn(database, lambda: AT + DAY)
    assert not deadlines.turn(database, lambda: AT + 2 * DAY)


def test_clocks_over_http(database: Engine) -> None:
    now = Clock(AT)
    acme = web(database, now).customer("acme")
    with transaction(database) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    asked = {"model": "digits", "record_ids": ["r-0"], "reason": "gdpr_art_17", "received_at": "2025-01-31T09:00:00Z"}
    made = acme.post("/v1/deletion-requests", asked).json()
    assert made["received_at"] == "2025-01-31T09:00:00.000Z"
    assert made["confirmed_at"] == "2025-03-01T11:12:40.120Z"
    assert made["due_at"] == "2025-02-28T09:00:00.000Z"
    assert (made["regulation"], made["extension"]) == ("gdpr", None)
    assert (made["completed_at"], made["old_copies_purged_at"]) == (None, None)
    path = f"/v1/deletion-requests/{made['id']}/extend"
    assert acme.post(path, {"reason": "late"}).json()["code"] == "deadline_over"
    now.now = datetime(2025, 2, 1, tzinfo=UTC)
    assert acme.post(path, {"reason": "  "}).status_code == 422
    assert acme.post(path, {"reason": "models"}).json()["due_at"] == "2025-04-30T09:00:00.000Z"
    again = acme.post(path, {"reason": "models"})
    assert (again.status_code, again.json()["code"]) == (409, "already_extended")
    wrong = acme.post("/v1/deletion-requests", {**asked, "regulation": "nope"}).json()
    assert wrong["errors"][0]["pointer"] == "/regulation"
    assert acme.customer("other").post(path, {"reason": "x"}).status_code == 404
