"""Submitting, cancelling and looking at deletion requests, on the real database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from core.access.tables import AuditEvent
from core.datasets.repository import Records
from core.datasets.tables import Record
from core.deletions import service
from core.deletions.commands import Identity, ListFilter, SubmitDeletion
from core.deletions.errors import (
    DatasetIndexing,
    EmptySelection,
    ExternalIdTaken,
    NoVersion,
    RequestNotFound,
    TooManyIds,
    UnknownRecords,
    WrongDataset,
)
from core.deletions.tables import DeletionRecord, DeletionTarget
from core.platform.errors import IllegalTransition
from core.platform.outbox import OutboxRow
from core.platform.paging import Page
from core.policies.service import PolicyNotFound
from core.registry.errors import ModelNotFound
from tests.builders.estate import AT, KEYRING, Estate, estate

pytestmark = pytest.mark.integration


def states(tx: Session, built: Estate, *record_ids: str, dataset: str = "digits") -> list[str]:
    refs = Records(tx).resolve(built.datasets[dataset], record_ids).found
    return [ref.state for ref in refs]


def events(tx: Session) -> Sequence[str]:
    return tx.scalars(select(OutboxRow.name).where(OutboxRow.topic == "event", OutboxRow.name.like("deletion%"))).all()


def targets(tx: Session, request_id: str) -> dict[str, str]:
    rows = tx.execute(
        select(DeletionTarget.model_id, DeletionTarget.status).where(DeletionTarget.request_id == request_id)
    )
    return dict(rows.all())


def test_one_transaction_holds_request_records_audit_and_event(tx: Session) -> None:
    built = estate(tx)
    view = built.submit(tx, "r-1", "r-2", "r-1", external_id="PRIV-1", metadata={"ticket": 7})
    assert (view.request.status, view.request.status_detail) == ("pending", "queued")
    assert (view.request.record_count, view.request.already_erased) == (2, 0)
    assert view.models == ("digits",)
    assert view.run_ids == ()
    assert states(tx, built, "r-0", "r-1", "r-2") == ["active", "pending_erasure", "pending_erasure"]
    covered = tx.scalars(select(DeletionRecord.record_id).where(DeletionRecord.request_id == view.request.id))
    assert set(covered) == {"r-1", "r-2"}
    audit = tx.scalars(select(AuditEvent).where(AuditEvent.object_id == view.request.id)).one()
    assert (audit.action, audit.actor) == ("deletion_request.submitted", "key_t")
    assert "r-1" not in str(audit.details)
    row = tx.scalars(select(OutboxRow).where(OutboxRow.name == "deletion_request.created")).one()
    assert row.payload["data"]["id"] == view.request.id
    assert "r-1" not in str(row.payload)
    assert [
        event.type for event in service.timeline(tx, workspace_id=built.workspace_id, request_id=view.request.id)
    ] == ["created"]


def test_subjects_and_identities_select_records_too(tx: Session) -> None:
    built = estate(tx)
    view = built.submit(tx, "r-3", subject_ids=("writer-0",), identities=(Identity("email", " A@B.example"),))
    assert view.request.record_count == 4  # r-0, r-2, r-4 of the subject, r-3 by id; r-0 also by identity


def test_the_value_of_an_identity_is_not_shown_by_its_repr() -> None:
    assert "a@b" not in repr(SubmitDeletion(identities=(Identity("email", "a@b.example"),)))


def test_unknown_people_are_completed_at_once(tx: Session) -> None:
    built = estate(tx)
    view = built.submit(tx, subject_ids=("nobody",), hold_seconds=60)
    assert (view.request.status, view.request.record_count, view.request.status_detail) == ("completed", 0, "done")
    assert view.request.finished_at == AT
    assert list(events(tx)) == [
        "deletion_request.created",
        "deletion_request.started",
        "deletion_request.completed",
    ]


def test_people_are_looked_for_in_every_data_set_when_none_is_named(tx: Session) -> None:
    built = estate(tx)
    built.add_dataset(tx, "letters")
    built.add_model(tx, "letters-a", "letters")
    built.add_model(tx, "letters-b", "letters")
    built.add_model(tx, "unfinished", "letters", versions=0)
    view = built.submit(tx, model=None, identities=(Identity("email", "a@b.example"),))
    assert view.models == ("digits", "letters-a", "letters-b")
    assert view.request.record_count == 2
    assert set(targets(tx, view.request.id).values()) == {"pending"}


def test_held_out_records_alone_need_no_run(tx: Session) -> None:
    built = estate(tx)
    view = built.submit(tx, "t-0")
    assert (view.request.status, view.request.record_count) == ("completed", 1)
    assert states(tx, built, "t-0", "t-1") == ["erased", "active"]


def test_held_out_records_with_others_wait_for_the_run_and_can_be_set_free(tx: Session) -> None:
    built = estate(tx)
    view = built.submit(tx, "t-0", "r-0")
    assert states(tx, built, "t-0", "r-0") == ["pending_erasure", "pending_erasure"]
    service.cancel(tx, workspace_id=built.workspace_id, request_id=view.request.id, actor="key_t", at=AT)
    assert states(tx, built, "t-0", "r-0") == ["active", "active"]


def test_records_of_a_data_set_without_models_are_erased_at_once(tx: Session) -> None:
    built = estate(tx, models=())
    view = built.submit(tx, "r-0", model=None, dataset="digits")
    assert (view.request.status, view.models) == ("completed", ())
    assert states(tx, built, "r-0") == ["erased"]
    again = built.submit(tx, "r-0", model=None, dataset="digits")
    assert (again.request.record_count, again.request.already_erased) == (0, 1)


def test_what_one_model_has_forgotten_another_may_still_hold(tx: Session) -> None:
    built = estate(tx, models=("digits", "other"))
    first = built.submit(tx, "r-0")
    tx.execute(text("update deletion_targets set status = 'completed'"))
    tx.execute(text("update deletion_requests set status = 'completed'"))
    tx.execute(text("update records set state = 'erased' where record_id = 'r-0'"))
    tx.expire_all()
    again = built.submit(tx, "r-0", "r-1")
    assert (again.request.record_count, again.request.already_erased) == (1, 1)
    everywhere = built.submit(tx, "r-0", model=None, dataset="digits")
    assert everywhere.request.record_count == 1
    assert targets(tx, everywhere.request.id) == {built.models["digits"]: "completed", built.models["other"]: "pending"}
    assert first.request.id != again.request.id


@pytest.mark.parametrize("count", [1, 25])
def test_unknown_record_ids_are_pointed_at(tx: Session, count: int) -> None:
    built = estate(tx)
    with pytest.raises(UnknownRecords) as caught:
        built.submit(tx, "r-0", *(f"nope-{i}" for i in range(count)), "t-0")
    assert [problem.pointer for problem in caught.value.problems] == [
        f"/record_ids/{i}" for i in range(1, 1 + min(count, 20))
    ]
    assert states(tx, built, "r-0") == ["active"]


def test_bad_requests_are_refused(tx: Session) -> None:
    built = estate(tx)
    built.add_dataset(tx, "letters")
    built.add_model(tx, "empty", "digits", versions=0)
    with pytest.raises(EmptySelection):
        built.submit(tx)
    with pytest.raises(TooManyIds):
        built.submit(tx, *(f"r-{i}" for i in range(101)))
    with pytest.raises(ModelNotFound):
        built.submit(tx, "r-0", model="nope")
    with pytest.raises(WrongDataset):
        built.submit(tx, "r-0", dataset="letters")
    with pytest.raises(NoVersion):
        built.submit(tx, "r-0", model="empty")
    with pytest.raises(PolicyNotFound):
        built.submit(tx, "r-0", policy="nope")
    assert events(tx) == []


def test_ids_of_another_workspace_are_unknown(tx: Session) -> None:
    mine, theirs = estate(tx), estate(tx)
    theirs.add_dataset(tx, "secret", train=9)
    with pytest.raises(ModelNotFound):
        mine.submit(tx, "r-8", model="secret")
    with pytest.raises(UnknownRecords):
        mine.submit(tx, "r-8", model=None)
    request_id = theirs.submit(tx, "r-0").request.id
    for call in (service.get, service.timeline):
        with pytest.raises(RequestNotFound):
            call(tx, workspace_id=mine.workspace_id, request_id=request_id)
    with pytest.raises(RequestNotFound):
        service.cancel(tx, workspace_id=mine.workspace_id, request_id=request_id, actor="key_t", at=AT)


def test_a_data_set_that_is_still_indexed_is_not_answered_with_nothing_found(tx: Session) -> None:
    built = estate(tx)
    built.add_dataset(tx, "letters", status="indexing")
    with pytest.raises(DatasetIndexing):
        built.submit(tx, model=None, subject_ids=("writer-0",))
    assert built.submit(tx, subject_ids=("writer-0",)).request.record_count == 3  # the model's own is ready


def test_an_external_id_is_taken_once_a_workspace(tx: Session) -> None:
    built, other = estate(tx), estate(tx)
    built.submit(tx, "r-0", external_id="PRIV-1")
    with pytest.raises(ExternalIdTaken):
        built.submit(tx, "r-1", external_id="PRIV-1")
    other.submit(tx, "r-0", external_id="PRIV-1")


def test_cancelling_frees_records_that_nobody_else_covers(tx: Session) -> None:
    built = estate(tx)
    first, second = built.submit(tx, "r-0", "r-1"), built.submit(tx, "r-1", "r-2")
    view = service.cancel(tx, workspace_id=built.workspace_id, request_id=first.request.id, actor="key_t", at=AT)
    assert (view.request.status, view.request.finished_at) == ("cancelled", AT)
    assert states(tx, built, "r-0", "r-1", "r-2") == ["active", "pending_erasure", "pending_erasure"]
    assert set(targets(tx, first.request.id).values()) == {"cancelled"}
    with pytest.raises(IllegalTransition):
        service.cancel(tx, workspace_id=built.workspace_id, request_id=first.request.id, actor="key_t", at=AT)
    service.cancel(tx, workspace_id=built.workspace_id, request_id=second.request.id, actor="key_t", at=AT)
    assert states(tx, built, "r-0", "r-1", "r-2") == ["active"] * 3


def test_a_batch_keeps_order_and_one_bad_item_leaves_no_trace(tx: Session) -> None:
    built = estate(tx)
    commands = [
        SubmitDeletion(model="digits", record_ids=("r-0",), external_id="A"),
        SubmitDeletion(model="digits", record_ids=("r-1", "nope"), external_id="B"),
        SubmitDeletion(model="digits", record_ids=("r-2",), external_id="A"),
        SubmitDeletion(model="digits", subject_ids=("nobody",)),
    ]
    results = service.submit_many(
        tx, workspace_id=built.workspace_id, actor="k", commands=commands, keyring=KEYRING, max_ids=10, at=AT
    )
    assert [type(result.error) for result in results] == [type(None), UnknownRecords, ExternalIdTaken, type(None)]
    assert [result.view.request.status for result in results if result.view] == ["pending", "completed"]
    assert states(tx, built, "r-0", "r-1", "r-2") == ["pending_erasure", "active", "active"]
    assert len(tx.scalars(select(AuditEvent)).all()) == 2


def test_lists_are_filtered_and_paged_newest_first(tx: Session) -> None:
    built = estate(tx, models=("digits", "other"))
    made = [
        built.submit(tx, "r-0", at=AT),
        built.submit(tx, "r-1", at=AT + timedelta(minutes=1), model="other", external_id="X"),
        built.submit(tx, subject_ids=("nobody",), at=AT + timedelta(minutes=2)),
    ]
    ids = [view.request.id for view in made]

    def found(page: Page | None = None, **wanted: object) -> list[str]:
        rows = service.search(
            tx,
            workspace_id=built.workspace_id,
            wanted=ListFilter(**wanted),  # type: ignore[arg-type]
            page=page or Page(),
        )
        return [view.request.id for view in rows.data]

    assert found() == ids[::-1]
    assert found(Page(limit=2)) == [ids[2], ids[1]]
    assert found(Page(limit=2, after=(made[1].request.created_at, ids[1]))) == [ids[0]]
    assert found(status="pending") == [ids[1], ids[0]]
    assert found(model="other") == [ids[1]]
    assert found(external_id="X") == [ids[1]]
    assert found(subject="writer-0") == [ids[0]]
    assert found(created_after=AT, created_before=AT + timedelta(minutes=2)) == [ids[1]]


def test_ten_thousand_ids_are_taken_in_few_statements(database: Engine) -> None:
    with Session(database) as tx, tx.begin():
        built = estate(tx)
        dataset_id = built.add_dataset(tx, "large", train=0, test=0)
        tx.execute(
            text(
                "insert into records (dataset_id, record_id, split, state, file, row)"
                " select :id, 'n-' || i, 'train', 'active', 0, i from generate_series(0, 9999) i"
            ),
            {"id": dataset_id},
        )
        built.add_model(tx, "large", "large")
    statements: list[str] = []

    @event.listens_for(database, "before_cursor_execute")
    def count(_c: object, _cursor: object, statement: str, _p: object, _x: object, _many: bool) -> None:
        statements.append(statement)

    with Session(database) as tx, tx.begin():
        command = SubmitDeletion(model="large", record_ids=tuple(f"n-{i}" for i in range(10_000)))
        view = service.submit(
            tx,
            workspace_id=built.workspace_id,
            actor="k",
            command=command,
            keyring=KEYRING,
            max_ids=10_000,
            at=datetime.now(UTC),
        )
        assert view.request.record_count == 10_000
    assert len(statements) < 30
    with Session(database) as tx:
        waiting = select(Record.record_id).where(Record.dataset_id == dataset_id, Record.state == "pending_erasure")
        assert len(tx.scalars(waiting).all()) == 10_000
