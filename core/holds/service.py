"""Placing legal holds and releasing them. Each use case runs in a transaction it does not own."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Principal
from core.datasets.repository import Datasets
from core.holds.errors import HoldReleased
from core.holds.repository import Holds
from core.holds.tables import LegalHold
from core.platform import outbox
from core.platform.errors import InvalidInput, Problem
from core.platform.ids import new_id
from core.registry.repository import Models

SCOPES: Final = ("workspace", "dataset", "model")


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """What must not be erased: the whole workspace, or the data set or model of this name."""

    scope: str
    name: str | None
    reason: str


def place(tx: Session, *, caller: Principal, command: PlaceHold, at: datetime) -> LegalHold:
    """From the commit on nothing that the hold covers is planned, rewritten or purged.

    Raises ``DatasetNotFound``, ``ModelNotFound``, and ``InvalidInput`` when the name does not fit the scope.
    """
    object_id = _object(tx, caller.workspace_id, command)
    holds = Holds(tx)
    holds.serialise(caller.workspace_id)
    hold = holds.add(
        LegalHold(
            id=new_id("hold"),
            workspace_id=caller.workspace_id,
            scope=command.scope,
            object_id=object_id,
            name=command.name,
            reason=command.reason,
            created_by=caller.key_id,
            created_at=at,
        )
    )
    _tell(tx, caller, hold, "legal_hold.placed", command.reason, at)
    return hold


def release(tx: Session, *, caller: Principal, hold_id: str, reason: str, at: datetime) -> LegalHold:
    """What waited for this hold alone goes on by itself. Raises ``HoldNotFound`` and ``HoldReleased``."""
    hold = Holds(tx).get_for(caller.workspace_id, hold_id, lock=True)
    if hold.released_at is not None:
        raise HoldReleased("The legal hold has been released already.")
    hold.released_at, hold.released_by, hold.release_reason = at, caller.key_id, reason
    tx.flush()
    _tell(tx, caller, hold, "legal_hold.released", reason, at)
    return hold


def _object(tx: Session, workspace_id: str, command: PlaceHold) -> str | None:
    if command.scope not in SCOPES:
        raise _invalid("/scope", f"One of {', '.join(SCOPES)} is needed.")
    if (command.scope == "workspace") != (command.name is None):
        raise _invalid("/name", "A hold on a data set or a model names it; one on the workspace has no name.")
    if command.scope == "dataset":
        return Datasets(tx).by_name(workspace_id, command.name or "").id
    return Models(tx).by_name(workspace_id, command.name or "").id if command.scope == "model" else None


def _tell(tx: Session, caller: Principal, hold: LegalHold, action: str, reason: str, at: datetime) -> None:
    data: dict[str, Any] = {"id": hold.id, "scope": hold.scope, "name": hold.name}
    told = {**data, "sequence": 1 if hold.released_at is None else 2}
    outbox.put_event(tx, workspace_id=hold.workspace_id, type=action, data=told, at=at)
    audit.note(
        tx,
        workspace_id=hold.workspace_id,
        actor=caller.key_id,
        action=action,
        object_id=hold.id,
        details={**data, "reason": reason},
        at=at,
    )


def _invalid(pointer: str, why: str) -> InvalidInput:
    return InvalidInput(why, [Problem(pointer, "bad_scope", why)])
