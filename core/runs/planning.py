"""From waiting requests to a run: those of a model that ask for the same policy are taken together, when it pays."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.deletions import progress
from core.deletions.commands import Waiter
from core.deletions.repository import Requests
from core.holds.repository import LEGAL_HOLD, Holds
from core.platform import outbox
from core.platform.database import database_now
from core.platform.ids import new_id
from core.policies import service as policies
from core.policies.body import Policy, as_json
from core.registry.repository import LATEST, Models, Versions
from core.registry.tables import Model
from core.runs.batching import Rules, Take, Wait, decide
from core.runs.lifecycle import Mode, Status
from core.runs.repository import Runs, Waiting
from core.runs.tables import Run

EXECUTE = "runs.execute"
"""Name of the task that rings a worker's doorbell."""

_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Planned:
    """What a turn of planning did: a run for some requests, or their end without one."""

    run_id: str | None
    requests: int


def plan_next(tx: Session, *, at: datetime) -> Planned | None:
    """Plan for the model whose first request is due first; None when nothing can be planned now.

    A run takes every pending request of the model that is not held (those that ask for the same policy), as soon as
    ``batching.decide`` says so, and is queued with its doorbell in the same transaction. Requests that the model has
    nothing left of are completed without a run. Any number of planners may do this at once: the database allows one
    active run a model, and the loser moves on. Models on legal hold are passed over.
    """
    now = database_now(tx)
    left: list[tuple[Waiting, str]] = []
    for waiting in Runs(tx).waiting(limit=_LOOKED_AT):
        if waiting.held:
            left.append((waiting, LEGAL_HOLD))
            continue
        named = waiting.policy or Models(tx).get(waiting.model_id).policy
        name, policy = policies.effective(tx, waiting.workspace_id, named)
        decision = _decide(tx, waiting, None, Rules.of(policy), now)
        if isinstance(decision, Wait):
            left.append((waiting, decision.why))
        if not isinstance(decision, Take):
            continue
        savepoint = tx.begin_nested()
        try:
            planned = _plan(tx, waiting, name, policy, now, at)
        except IntegrityError:
            planned = None
        if planned is not None:
            savepoint.commit()
            return planned
        savepoint.rollback()  # and with it the locks, lest planners wait for each other's workspaces
    for waiting, why in left:  # last, because who holds these rows must not wait for a workspace
        Requests(tx).note_waiting(waiting.model_id, waiting.policy, why)
    return None


def _decide(
    tx: Session,
    waiting: Waiting,
    locked: Sequence[str] | None,
    rules: Rules,
    now: datetime,
) -> Take | Wait | None:
    if not rules.count_people:
        return decide([Waiter(waiting.oldest, waiting.due_at, frozenset())], rules, now)
    requests = Requests(tx)
    found = requests.pending(waiting.model_id, waiting.policy) if locked is None else locked
    waiters = requests.waiters(waiting.model_id, found)
    return decide(waiters, rules, now) if waiters else None


def _plan(
    tx: Session, waiting: Waiting, policy_name: str, policy: Policy, now: datetime, at: datetime
) -> Planned | None:
    requests = Requests(tx)
    requests.serialise(waiting.workspace_id)
    if Holds(tx).on_models([waiting.model_id]):  # placed since we looked
        return None
    request_ids = requests.take_pending(waiting.model_id, waiting.policy)
    if not request_ids:
        return None
    # Once more, of those that are locked: one that is being cancelled must not count towards the floor.
    if not isinstance(_decide(tx, waiting, request_ids, Rules.of(policy), now), Take):
        return None
    return take(tx, waiting, request_ids, policy_name, policy, at)


def take(
    tx: Session, waiting: Waiting, request_ids: Sequence[str], policy_name: str, policy: Policy, at: datetime
) -> Planned:
    """Queue a run for these pending requests on a model, which are locked, or complete them when it has nothing left.

    ``IntegrityError`` when the model has an active run already.
    """
    forget = Requests(tx).forget_ids(waiting.model_id, request_ids)
    if not forget:
        progress.complete_without_run(tx, model_id=waiting.model_id, request_ids=request_ids, at=at)
        return Planned(None, len(request_ids))
    run = queued(
        id=new_id("run"),
        mode=Mode.UNLEARN,
        model=Models(tx).get(waiting.model_id),
        base_version=Versions(tx).resolve(waiting.model_id, LATEST).version,
        policy_name=policy_name,
        policy=policy,
        forget_records=len(forget),
        due_at=waiting.due_at,
        at=at,
    )
    Runs(tx).add(run)
    _announce(tx, run, request_ids, at)
    progress.start(tx, model_id=waiting.model_id, run_id=run.id, request_ids=request_ids, at=at)
    return Planned(run.id, len(request_ids))


def queued(
    *,
    id: str,
    mode: Mode,
    model: Model,
    base_version: int,
    policy_name: str,
    policy: Policy,
    forget_records: int,
    due_at: datetime,
    at: datetime,
) -> Run:
    """A run that waits for a worker, not yet inserted. Those with an early ``due_at`` are claimed first."""
    return Run(
        id=id,
        workspace_id=model.workspace_id,
        model_id=model.id,
        mode=mode,
        status=Status.QUEUED,
        base_version=base_version,
        policy_name=policy_name,
        policy=as_json(policy),
        parameters=dataclasses.asdict(policy.parameters),
        forget_records=forget_records,
        retain_records=0,
        progress={},
        gates=[],
        verdict_reasons=[],
        unmet_targets=[],
        staged=[],
        timings={},
        attempt=0,
        revision=1,
        due_at=due_at,
        created_at=at,
    )


def _announce(tx: Session, run: Run, request_ids: Sequence[str], at: datetime) -> None:
    # The first event keeps the requests for good; targets remember only the run that took them last.
    Runs(tx).add_event(run, "queued", {"deletion_request_ids": list(request_ids)}, at)
    outbox.put_task(tx, EXECUTE, run.id)
