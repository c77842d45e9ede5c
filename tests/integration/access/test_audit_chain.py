"""The audit log: complete, in order, and telling when it was touched."""

import threading

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.access import audit, service
from core.platform.clock import utc_now
from core.platform.database import transaction
from tests.builders.web import web

pytestmark = pytest.mark.integration


def _workspace(tx: Session, name: str = "acme") -> str:
    return service.create_workspace(tx, name=name, actor="cli", at=utc_now()).id


def _note(tx: Session, workspace_id: str, number: int) -> None:
    details = {"n": number, "share": 0.1, "big": 1e22, "zero": -0.0, "tiny": 1e-9, "words": "Ünïcode", "none": None}
    audit.note(
        tx, workspace_id=workspace_id, actor="cli", action="thing.done", object_id="x", details=details, at=utc_now()
    )


def test_the_chain_holds_after_a_round_trip(database: Engine) -> None:
    with transaction(database) as tx:
        workspace_id = _workspace(tx)
        for number in range(5):
            _note(tx, workspace_id, number)
    with transaction(database) as tx:
        assert audit.first_broken_line(tx, workspace_id) is None


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("update audit_events set details = '{\"n\": 99}' where sequence = 3", 3),
        ("update audit_events set actor = 'somebody' where sequence = 1", 1),
        ("update audit_events set at = at + interval '1 microsecond' where sequence = 2", 2),
        ("delete from audit_events where sequence = 4", 4),
        ("update audit_events set sequence = 99 where sequence = 2", 2),
    ],
)
def test_a_touched_line_breaks_the_chain(database: Engine, statement: str, line: int) -> None:
    with transaction(database) as tx:
        workspace_id = _workspace(tx)
        for number in range(5):
            _note(tx, workspace_id, number)
    with database.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))  # who may do this owns the server
        connection.execute(text(statement))
    with transaction(database) as tx:
        assert audit.first_broken_line(tx, workspace_id) == line


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_events set actor = 'somebody' where sequence = 1",
        "delete from audit_events where sequence = 1",
        "delete from audit_events where false",
        "truncate audit_events",
        "truncate workspaces cascade",
    ],
)
def test_the_database_takes_new_lines_only(tx: Session, statement: str) -> None:
    _workspace(tx)
    with pytest.raises(IntegrityError, match="audit_events takes new lines only"):
        tx.execute(text(statement))


def test_many_writers_make_one_chain_without_gaps(database: Engine) -> None:
    with transaction(database) as tx:
        ours, theirs = _workspace(tx), _workspace(tx, "rival")

    def write(workspace_id: str) -> None:
        for number in range(10):
            with transaction(database) as tx:
                _note(tx, workspace_id, number)

    threads = [threading.Thread(target=write, args=(who,)) for who in (ours, ours, ours, theirs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with transaction(database) as tx:
        assert audit.first_broken_line(tx, ours) is None
        count = "select max(sequence), count(*) from audit_events where workspace_id = :id"
        assert tuple(tx.execute(text(count), {"id": ours}).one()) == (31, 31)


def test_the_log_is_served_filtered_and_newest_first(database: Engine) -> None:
    caller = web(database).customer()
    caller.put("/v1/policies/strict", {"retention_days": 1})
    caller.post("/v1/api-keys", {"name": "n", "scopes": ["runs:read"]})
    data = caller.get("/v1/audit-events").json()["data"]
    assert [event["action"] for event in data] == [
        "api_key.created",
        "policy.changed",
        "api_key.created",
        "workspace.created",
    ]
    assert [event["sequence"] for event in data] == [4, 3, 2, 1]
    assert data[0]["previous_hash"] == data[1]["hash"]
    assert data[3]["previous_hash"] == "00" * 32

    def actions(query: str) -> list[str]:
        return [event["action"] for event in caller.get(f"/v1/audit-events?{query}").json()["data"]]

    assert actions("action=policy.changed") == ["policy.changed"]
    assert actions("action=api_key.*") == ["api_key.created"] * 2
    assert actions("action=api%25.*") == []
    assert actions(f"object_id={data[1]['object_id']}") == ["policy.changed"]
    assert actions("actor=cli") == ["api_key.created", "workspace.created"]
    assert actions("created_after=2999-01-01T00:00:00Z") == []
    assert len(actions("created_before=2999-01-01T00:00:00Z")) == 4
    assert caller.get("/v1/audit-events?created_after=yesterday").status_code == 422
