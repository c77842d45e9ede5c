"""A workspace's append-only log. Each line holds the hash of the line before it, so that a change shows."""

import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit_export
from core.access.audit_export import GENESIS, Head
from core.access.repository import AuditEvents
from core.access.tables import AuditEvent
from core.platform.ids import new_id


def note(
    tx: Session, *, workspace_id: str, actor: str, action: str, object_id: str, details: Mapping[str, Any], at: datetime
) -> None:
    """Append one line. ``details`` hold counts and ids, never personal data.

    Writers of one workspace queue here until the end of their transactions, so call it late.
    """
    events = AuditEvents(tx)
    events.lock(workspace_id)
    before = events.last(workspace_id)
    event = AuditEvent(
        id=new_id("aud"),
        workspace_id=workspace_id,
        sequence=before.sequence + 1 if before else 1,
        actor=actor,
        action=action,
        object_id=object_id,
        details=_as_stored(details),
        at=at.astimezone(UTC),
        previous_hash=before.hash if before else GENESIS,
    )
    event.hash = line_hash(event)
    events.add(event)


def _as_stored(details: Mapping[str, Any]) -> dict[str, Any]:
    """What Postgres will give back: its numbers know no exponent and no negative zero, which the hash would notice."""

    def number(text: str) -> float | int:
        value = float(text) + 0.0
        return int(value) if "e" in text and value.is_integer() else value

    return json.loads(json.dumps(dict(details), allow_nan=False), parse_float=number)


def line_hash(event: AuditEvent) -> bytes:
    """SHA-256 over the previous line's hash and everything this line says."""
    return audit_export.line_hash(audit_export.said_by(event), event.previous_hash)


def head(tx: Session, workspace_id: str) -> Head:
    """Where the workspace's log ends now."""
    last = AuditEvents(tx).last(workspace_id)
    return Head(workspace_id, last.sequence, last.hash.hex()) if last else Head(workspace_id, 0, GENESIS.hex())


def first_broken_line(tx: Session, workspace_id: str) -> int | None:
    """The sequence number at which the chain does not hold (changed, removed or inserted line); None if it holds.

    Lines cut off at the end leave a valid shorter chain: an export's signed checkpoint shows that (``audit_export``).
    """
    expected, previous = 1, GENESIS
    with closing(AuditEvents(tx).in_order(workspace_id)) as events:
        for event in events:
            if event.sequence != expected or event.previous_hash != previous or event.hash != line_hash(event):
                return expected
            expected, previous = expected + 1, event.hash
    return None
