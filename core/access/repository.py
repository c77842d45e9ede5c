"""All SQL about workspaces, keys, idempotency records and the audit log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, ScalarResult, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.access.tables import ApiKey, AuditEvent, IdempotencyRecord, Workspace
from core.platform.database import Columns, inserting, table_of
from core.platform.paging import Page, Slice, keyset, page_of

_TOUCH_EVERY = timedelta(minutes=1)


def advisory_number(*parts: str) -> int:
    """A 64-bit number for Postgres's advisory locks, from what is to be locked."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def lock(tx: Session, *parts: str) -> None:
    """Wait for whoever has locked the same, and hold it until the end of the transaction."""
    tx.execute(_LOCK, {"number": advisory_number(*parts)})


def lock_shared(tx: Session, *parts: str) -> None:
    """The same beside any others that take it so, but never beside one that has locked it."""
    tx.execute(_LOCK_SHARED, {"number": advisory_number(*parts)})


_LOCK: Final = text("select pg_advisory_xact_lock(cast(:number as bigint))")
_LOCK_SHARED: Final = text("select pg_advisory_xact_lock_shared(cast(:number as bigint))")


class Workspaces:
    """Workspaces by id and name."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, workspace: Workspace) -> bool:
        """Insert it; False when the name is taken."""
        values = {"id": workspace.id, "name": workspace.name, "created_at": workspace.created_at}
        added = insert(Workspace).values(values).on_conflict_do_nothing(index_elements=["name"]).returning(Workspace.id)
        return self._tx.scalar(added) is not None

    def named(self, name: str) -> Workspace | None:
        """The workspace of that name."""
        return self._tx.scalar(select(Workspace).where(Workspace.name == name))

    def add_sandbox(self, sandbox: Workspace) -> bool:
        """Insert the sandbox of ``test_of``; False when somebody else has done so meanwhile."""
        values = {name: getattr(sandbox, name) for name in ("id", "name", "test_of", "created_at")}
        added = insert(Workspace).values(values).on_conflict_do_nothing(index_elements=["test_of"])
        return self._tx.scalar(added.returning(Workspace.id)) is not None

    def sandbox_of(self, workspace_id: str) -> Workspace | None:
        """The workspace that its test keys act in."""
        return self._tx.scalar(select(Workspace).where(Workspace.test_of == workspace_id))


class ApiKeys:
    """API keys of one or all workspaces."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, key: ApiKey) -> ApiKey:
        """Insert it."""
        self._tx.add(key)
        self._tx.flush()
        return key

    def with_workspace(self, key_id: str) -> Columns | None:
        """The key's columns and ``workspace``, the name of its workspace; None when there is no such key."""
        return self._tx.execute(_KEY, {"id": key_id}).one_or_none()

    def of_workspace(self, workspace_id: str, key_id: str) -> ApiKey | None:
        """The key, locked, if it is the workspace's."""
        query = select(ApiKey).where(ApiKey.id == key_id, ApiKey.workspace_id == workspace_id)
        return self._tx.scalar(query.with_for_update())

    def page(self, workspace_id: str, page: Page) -> Slice[ApiKey]:
        """The workspace's keys, newest first."""
        query = select(ApiKey).where(ApiKey.workspace_id == workspace_id)
        rows = self._tx.scalars(keyset(query, page, ApiKey.created_at, ApiKey.id)).all()
        return page_of(rows, page, lambda key: (key.created_at, key.id))

    def touch(self, key: Columns, at: datetime) -> None:
        """Note the use, at most once a minute, and never wait for another request that is noting it."""
        if key.last_used_at is not None and at - key.last_used_at < _TOUCH_EVERY:
            return
        free = select(ApiKey.id).where(ApiKey.id == key.id).with_for_update(skip_locked=True)
        change = update(ApiKey).where(ApiKey.id == free.scalar_subquery()).values(last_used_at=at)
        self._tx.execute(change.execution_options(synchronize_session=False))


_KEYS: Final = table_of(ApiKey)
_WORKSPACES: Final = table_of(Workspace)
_KEY: Final = (
    select(_KEYS, _WORKSPACES.c.name.label("workspace"))
    .join(_WORKSPACES, _WORKSPACES.c.id == _KEYS.c.workspace_id)
    .where(_KEYS.c.id == bindparam("id"))
)


class IdempotencyRecords:
    """Answers once given to creating calls."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def try_lock(self, workspace_id: str, method: str, path: str, key: str) -> bool:
        """Take the key until the transaction ends; False when another transaction has it."""
        number = advisory_number("idempotency", workspace_id, method, path, key)
        return bool(self._tx.scalar(select(func.pg_try_advisory_xact_lock(number))))

    def get(self, workspace_id: str, method: str, path: str, key: str) -> IdempotencyRecord | None:
        """The answer stored under the key."""
        return self._tx.get(IdempotencyRecord, (workspace_id, method, path, key))

    def add(self, record: IdempotencyRecord) -> None:
        """Insert it."""
        self._tx.add(record)
        self._tx.flush()

    def remove(self, record: IdempotencyRecord) -> None:
        """Delete it at once, so that its key can be used for another."""
        self._tx.delete(record)
        self._tx.flush()

    def expire(self, before: datetime) -> int:
        """Delete records older than ``before``; says how many there were."""
        gone = delete(IdempotencyRecord).where(IdempotencyRecord.created_at < before)
        return len(self._tx.execute(gone.returning(IdempotencyRecord.key)).all())


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines are wanted; None: any."""

    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> Sequence[Any]:
        """As SQL conditions. An action ending in ``.*`` means all that begin so."""
        wanted: list[Any] = []
        if self.actor is not None:
            wanted.append(AuditEvent.actor == self.actor)
        if self.action is not None:
            area = self.action.removesuffix(".*")
            exact = AuditEvent.action == self.action
            wanted.append(exact if area == self.action else AuditEvent.action.startswith(f"{area}.", autoescape=True))
        if self.object_id is not None:
            wanted.append(AuditEvent.object_id == self.object_id)
        if self.created_after is not None:
            wanted.append(AuditEvent.at > self.created_after)
        if self.created_before is not None:
            wanted.append(AuditEvent.at < self.created_before)
        return wanted


class AuditEvents:
    """Lines of the audit log. There is no way to change or remove one."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def lock(self, workspace_id: str) -> None:
        """Wait for the other writers of the workspace's log, until the end of the transaction."""
        lock(self._tx, "audit", workspace_id)

    def last(self, workspace_id: str) -> Row[int, bytes] | None:
        """``sequence`` and ``hash`` of the newest line."""
        return self._tx.execute(_LAST, {"workspace_id": workspace_id}).one_or_none()

    def add(self, event: AuditEvent) -> None:
        """Insert it."""
        self._tx.execute(_LINE, {name: getattr(event, name) for name in _COLUMNS})

    def after(self, workspace_id: str, sequence: int, *, until: int, limit: int) -> Sequence[AuditEvent]:
        """Up to ``limit`` lines after that one, none after ``until``, in order."""
        query = select(AuditEvent).where(
            AuditEvent.workspace_id == workspace_id, AuditEvent.sequence > sequence, AuditEvent.sequence <= until
        )
        return self._tx.scalars(query.order_by(AuditEvent.sequence).limit(limit)).all()

    def in_order(self, workspace_id: str) -> ScalarResult[AuditEvent]:
        """All lines from the first on, streamed and read afresh."""
        query = select(AuditEvent).where(AuditEvent.workspace_id == workspace_id).order_by(AuditEvent.sequence)
        return self._tx.scalars(query.execution_options(yield_per=1000, populate_existing=True))

    def page(self, workspace_id: str, wanted: AuditFilter, page: Page) -> Slice[AuditEvent]:
        """The lines that the filter lets through, newest first."""
        query = select(AuditEvent).where(AuditEvent.workspace_id == workspace_id, *wanted.conditions())
        rows = self._tx.scalars(keyset(query, page, AuditEvent.at, AuditEvent.id)).all()
        return page_of(rows, page, lambda event: (event.at, event.id))


_EVENTS: Final = table_of(AuditEvent)
_COLUMNS: Final = tuple(_EVENTS.c.keys())
_LINE: Final = inserting(AuditEvent)
_LAST: Final = (
    select(_EVENTS.c.sequence, _EVENTS.c.hash)
    .where(_EVENTS.c.workspace_id == bindparam("workspace_id"))
    .order_by(_EVENTS.c.sequence.desc())
    .limit(1)
)
