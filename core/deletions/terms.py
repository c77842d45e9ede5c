"""Which clock a request runs on, and telling when it runs out: the policy that applies, its terms and its warnings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.deletions import progress
from core.deletions.commands import SubmitDeletion
from core.deletions.deadlines import after, following, passed, warnings
from core.deletions.errors import ReceivedInFuture, UnknownRegulation
from core.deletions.repository import Requests
from core.deletions.tables import DeletionRequest
from core.platform.clock import rfc3339
from core.policies import service as policies
from core.policies.body import Policy
from core.policies.regulations import in_force, meant_by
from core.registry.repository import Models

_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Clock:
    """From when to when a request runs. ``regulation`` and ``due_at`` are None when nothing presses."""

    regulation: str | None
    received_at: datetime
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """A warning that was sent. ``share`` None: the request is overdue."""

    request_id: str
    share: float | None


def policy_of(tx: Session, workspace_id: str, named: str | None, model_ids: Sequence[str]) -> Policy:
    """The policy of a request: the one it names, else its model's if it has one model, else the default."""
    own = Models(tx).get(model_ids[0]).policy if named is None and len(model_ids) == 1 else None
    return policies.effective(tx, workspace_id, named or own)[1]


def clock(command: SubmitDeletion, policy: Policy, at: datetime) -> Clock:
    """The clock of a request that is accepted ``at``.

    The regulation is the one given, else the one that the reason begins with. A ``due_at`` that was given stays.
    Raises ``UnknownRegulation``, ``ReceivedInFuture``.
    """
    received = command.received_at or at
    if received > at + _CLOCKS_DIFFER:
        raise ReceivedInFuture
    known = in_force(policy.regulations)
    if command.regulation is not None and command.regulation not in known:
        raise UnknownRegulation(known)
    received = min(received, at)
    name = command.regulation or meant_by(command.reason, known)
    due = command.due_at or (after(received, known[name].term) if name is not None else None)
    return Clock(name, received, due)


def wind(request: DeletionRequest, policy: Policy, *, told_until: datetime | None = None) -> None:
    """Set when the request's deadline must be spoken of next; ``told_until``: what lies before is past."""
    request.warned_until, request.warn_next_at = told_until, None
    if request.due_at is not None:
        since = told_until or datetime.min.replace(tzinfo=request.due_at.tzinfo)
        request.warn_next_at = following(warnings(request.received_at, request.due_at, policy.escalate_at), since)


def warn_next(tx: Session, *, at: datetime) -> Sequence[Told]:
    """Tell of every warning that is due by ``at``, each once, for up to a hundred requests; what was told.

    Any number of processes may do this at once. A policy that has changed meanwhile counts from now on.
    """
    return [told for request in Requests(tx).to_warn(at, limit=_AT_ONCE) for told in _warn(tx, request, at)]


def _warn(tx: Session, request: DeletionRequest, at: datetime) -> Sequence[Told]:
    assert request.due_at is not None  # noqa: S101  # nothing is wound without
    models = [target.model_id for target in Requests(tx).targets(request.id)]
    policy = policy_of(tx, request.workspace_id, request.policy, models)
    since = request.warned_until or datetime.min.replace(tzinfo=at.tzinfo)
    due = passed(warnings(request.received_at, request.due_at, policy.escalate_at), since, at)
    for one in due:
        kind = "overdue" if one.share is None else "deadline_approaching"
        told = {"due_at": rfc3339(request.due_at), **({} if one.share is None else {"share": one.share})}
        progress.remark(tx, request, kind=kind, actor="system", detail=told, told=told, at=at)
    wind(request, policy, told_until=at)
    return [Told(request.id, one.share) for one in due]
