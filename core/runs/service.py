"""Use cases of runs, for workers (claim, report, finish) and for people (decide, cancel, look at).

Every write of a worker is fenced: it happens only while the worker's lease holds, or ``LeaseLost`` is raised and
nothing is written. A cancelled run publishes nothing, and its requests then wait for a person (``needs_review``): to
approve runs them again, to reject ends them; so no request is stuck and none is repeated against the canceller's will.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.errors import IllegalTransition
from core.platform.leases import Lease, new_token
from core.platform.paging import Page, Slice, page_of
from core.runs import finishing
from core.runs.lifecycle import LEASED, Mode, Status, is_ahead
from core.runs.moves import move, tell
from core.runs.planning import EXECUTE, plan_next
from core.runs.repository import RESUMED, RunFilter, Runs
from core.runs.tables import Run, RunEvent, RunScore, RunStep
from core.unlearning.job import Failure, Progress

__all__ = ["EXECUTE", "plan_next"]

_MOST_STEPS = 10_000
_MOST_SCORES = 10_000


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with the name of its model and the requests it was planned for."""

    run: Run
    model: str
    deletion_request_ids: tuple[str, ...]


def claim(
    tx: Session, *, run_id: str | None, owner: str, ttl_s: float, at: datetime, sandbox: bool = False
) -> Lease | None:
    """Take a queued run (the named one, or the oldest) for ``ttl_s`` seconds; None when there is none to be had.

    Of any number of claimants one gets it. Each claim is a new attempt with a token of its own. Runs of sandboxes are
    taken with ``sandbox`` and by nobody else.
    """
    runs = Runs(tx)
    run = runs.next_queued(run_id, sandbox=sandbox)
    if run is None:
        return None
    run.attempt += 1
    lease = Lease(run.id, new_token(), run.attempt)
    runs.grant(run, owner=owner, token=lease.token, ttl_s=ttl_s)
    run.started_at = run.started_at or at
    run.progress = {"phase": Status.PREPARING.value}
    move(tx, run, Status.PREPARING, kind="claimed", detail={"attempt": run.attempt}, at=at)
    if run.attempt == 1:
        tell(tx, run, "run.started", at)
    return lease


def heartbeat(tx: Session, *, lease: Lease, ttl_s: float) -> bool:
    """Prolong the lease; whether somebody wants the run cancelled. Raises ``LeaseLost``."""
    runs = Runs(tx)
    run = runs.held(lease)
    runs.extend(run, ttl_s)
    return run.cancel_requested_at is not None


def record(
    tx: Session,
    *,
    lease: Lease,
    latest: Progress,
    steps: Sequence[Mapping[str, Any]],
    ttl_s: float,
    at: datetime,
    resumed_step: int | None = None,
) -> bool:
    """Write what the child reported since the last time, and prolong the lease; whether to cancel.

    ``steps``: rows of the ledger, each with its ``step``. ``resumed_step``: the attempt has just gone on from a
    checkpoint after that step. A phase moves forward only. Raises ``LeaseLost``.
    """
    runs = Runs(tx)
    run = runs.held(lease)
    runs.extend(run, ttl_s)
    enter_phase(tx, run, Status(latest.phase), at)
    shown = {"phase": run.status, "step": latest.step, "max_steps": latest.max_steps, "eta_seconds": latest.eta_seconds}
    run.progress = {**run.progress, **{name: value for name, value in shown.items() if value is not None}}
    if latest.hardness is not None:
        run.hardness = dict(latest.hardness)
    if resumed_step is not None:
        runs.add_event(run, RESUMED, {"attempt": lease.attempt, "step": resumed_step}, at)
    if steps:
        runs.add_steps(run.id, lease.attempt, steps)
    run.revision += 1
    return run.cancel_requested_at is not None


def enter_phase(tx: Session, run: Run, phase: Status, at: datetime) -> None:
    """Move a held run forward to ``phase``; a late report of an earlier phase changes nothing."""
    if is_ahead(Status(run.status), phase):
        move(tx, run, phase, kind="phase", detail={"attempt": run.attempt}, at=at)


def reap_next(tx: Session, *, max_attempts: int, at: datetime) -> str | None:
    """Take back one run whose worker has stopped beating; its id, or None when there is none.

    It is queued again with a doorbell, or failed after ``max_attempts``, so that every accepted request ends.
    """
    run = Runs(tx).next_expired()
    if run is None:
        return None
    lost = Failure("worker_lost", "The worker that held the run stopped answering.", retryable=True)
    if run.cancel_requested_at is not None:
        finishing.cancel(tx, run, at=at)
    else:
        finishing.fail(tx, run, lost, max_attempts=max_attempts, at=at)
    return run.id


def release(tx: Session, *, lease: Lease, why: Mapping[str, Any], at: datetime) -> None:
    """Hand a run back unfinished through no fault of its own, however often that was. Raises ``LeaseLost``.

    ``why`` has a ``code``: the worker is shutting down, or has no room.
    """
    run = Runs(tx).held(lease)
    finishing.requeue(tx, run, {**why, "attempt": run.attempt}, at=at)


def cancel(tx: Session, *, workspace_id: str, run_id: str, actor: str, at: datetime) -> RunView:
    """Stop a run: at once while it is queued, at its next step when a worker holds it; asking twice is fine.

    Raises ``RunNotFound``; ``IllegalTransition`` when it has ended or waits for a decision.
    """
    runs = Runs(tx)
    runs.get_for(workspace_id, run_id)
    run = runs.lock(run_id)
    if run.status == Status.QUEUED:
        finishing.cancel(tx, run, at=at)
    elif run.status not in LEASED:
        raise IllegalTransition(f"The run is {run.status}; only a run that has not ended can be cancelled.")
    elif run.cancel_requested_at is None:
        run.cancel_requested_at = at
        run.revision += 1
        runs.add_event(run, "cancel_requested", {}, at)
    action = "hardness_assessment.cancelled" if run.mode == Mode.ASSESS else "run.cancelled"
    audit.note(tx, workspace_id=workspace_id, actor=actor, action=action, object_id=run.id, details={}, at=at)
    return view(tx, [run])[0]


def get(tx: Session, *, workspace_id: str, run_id: str) -> RunView:
    """Raises ``RunNotFound``."""
    return view(tx, [Runs(tx).get_for(workspace_id, run_id)])[0]


def search(tx: Session, *, workspace_id: str, wanted: RunFilter, page: Page) -> Slice[RunView]:
    """One page of the workspace's runs, newest first."""
    found = Runs(tx).page(workspace_id, wanted, page)
    return Slice(tuple(view(tx, found.data)), found.next_cursor, found.has_more)


def steps(tx: Session, *, workspace_id: str, run_id: str, after: int) -> Sequence[RunStep]:
    """The ledger of the run's latest attempt behind step ``after``, up to 10,000 rows. Raises ``RunNotFound``.

    It is complete: an attempt that goes on from a checkpoint reports the steps behind it first.
    """
    run = Runs(tx).get_for(workspace_id, run_id)
    return Runs(tx).steps(run.id, run.attempt, after=after, limit=_MOST_STEPS)


def scores(tx: Session, *, workspace_id: str, run_id: str, page: Page) -> Slice[RunScore]:
    """One page of what was measured of each forget record, by record id. Raises ``RunNotFound``."""
    run = Runs(tx).get_for(workspace_id, run_id)
    rows = Runs(tx).scores(run.id, after=page.after[1] if page.after else None, limit=page.limit + 1)
    return page_of(rows, page, lambda row: (run.created_at, row.record_id))


def all_scores(tx: Session, *, workspace_id: str, run_id: str) -> Sequence[RunScore]:
    """What was measured of each forget record, by record id, up to 10,000. Raises ``RunNotFound``."""
    run = Runs(tx).get_for(workspace_id, run_id)
    return Runs(tx).scores(run.id, after=None, limit=_MOST_SCORES)


@dataclass(frozen=True, slots=True)
class News:
    """What happened to a run behind a point: timeline, steps of the latest attempt, and the run itself."""

    run: Run
    events: Sequence[RunEvent]
    steps: Sequence[RunStep]


def news(tx: Session, *, workspace_id: str, run_id: str, event: int, attempt: int, step: int) -> News:
    """What a follower has not seen who has seen the timeline up to ``event`` and ``attempt``'s ledger up to ``step``.

    An attempt that went on from a checkpoint shares its first steps with the attempt before it. Raises ``RunNotFound``.
    """
    runs = Runs(tx)
    run = runs.get_for(workspace_id, run_id)
    seen = step
    if attempt != run.attempt:
        shared = runs.resumed_step(run.id, run.attempt) if attempt == run.attempt - 1 else None
        seen = -1 if shared is None else min(step, shared)
    return News(run, runs.events(run_id, after=event), runs.steps(run_id, run.attempt, after=seen, limit=1000))


def view(tx: Session, found: Sequence[Run]) -> Sequence[RunView]:
    """The runs with what belongs to them, in the same order and a fixed number of queries."""
    runs = Runs(tx)
    names, requests = runs.model_names(found), runs.requests_of([run.id for run in found])
    return [RunView(run, names[run.model_id], tuple(requests.get(run.id, ()))) for run in found]
