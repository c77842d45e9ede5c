"""How runs end: published, put before a person, failed, cancelled, or handed back to be tried again.

The run's row must be locked by the caller, under its lease where a worker acts. The order of locks is run, requests,
records, model, audit log, here and everywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit
from core.deletions import lifecycle as deletion_states
from core.deletions import progress
from core.deletions.repository import Requests
from core.platform import outbox
from core.platform.errors import IllegalTransition
from core.platform.leases import Lease
from core.policies.body import from_json
from core.registry.errors import NothingChanged, StaleBase
from core.registry.repository import LATEST, Versions
from core.registry.service import publish
from core.runs.lifecycle import Mode, Status
from core.runs.moves import move, tell
from core.runs.planning import EXECUTE
from core.runs.repository import REQUEUED, Runs
from core.runs.tables import Run
from core.runs.verdict import UNCHANGED, Decision, changed_nothing, rule, rule_assessment
from core.unlearning.job import Failure, Outcome, StoredFile

_SYSTEM = "system"


def finish(tx: Session, *, lease: Lease, outcome: Outcome, publish_uri: str, max_attempts: int, at: datetime) -> Status:
    """End a worker's run by its outcome, in one fenced transaction; the state that the run is in now.

    ``verdict.rule`` decides, of an assessment ``verdict.rule_assessment``. A result whose base is no longer the latest
    version is thrown away and the run queued again on the newest. Raises ``LeaseLost``, and then nothing has been
    written.
    """
    run = Runs(tx).held(lease)
    wanted = _ruled(run, outcome)
    _keep(tx, run, outcome)
    if wanted.ruling == "cancel":
        cancel(tx, run, at=at)
    elif wanted.failure is not None:
        fail(tx, run, wanted.failure, max_attempts=max_attempts, at=at)
    elif wanted.ruling == "keep":
        _assessed(tx, run, at)
    elif wanted.ruling == "review":
        review(tx, run, outcome, why=wanted.why, at=at)
    else:
        _publish_or_give_up(tx, run, outcome.staged, publish_uri, max_attempts, at)
    tx.flush()
    return Status(run.status)


def nothing_left(tx: Session, *, lease: Lease, at: datetime) -> None:
    """End a run whose records have been unlearned meanwhile: its requests are completed without it.

    An assessment fails: there is nothing to be assessed any more.
    """
    run = Runs(tx).held(lease)
    if run.mode == Mode.ASSESS:
        message = "The model has unlearned these records since the assessment was asked for."
        fail(tx, run, Failure("nothing_to_forget", message, retryable=False), max_attempts=0, at=at)
        return
    move(tx, run, Status.CANCELLED, kind="nothing_to_forget", detail={}, at=at)
    tell(tx, run, "run.cancelled", at)
    _settle(tx, run, deletion_states.Status.COMPLETED, "already_unlearned", _SYSTEM, {}, at)


def cancel(tx: Session, run: Run, *, at: datetime) -> None:
    """End the run without a result. Its requests wait for a person: approving runs them again, rejecting ends them."""
    move(tx, run, Status.CANCELLED, kind="cancelled", detail={}, at=at)
    tell(tx, run, "run.cancelled", at)
    _settle(tx, run, deletion_states.Status.NEEDS_REVIEW, "run_cancelled", _SYSTEM, {"code": "run_cancelled"}, at)


def fail(tx: Session, run: Run, failure: Failure, *, max_attempts: int, at: datetime) -> None:
    """Queue the run again if that may help and attempts are left; otherwise it and its requests have failed."""
    detail = {"code": failure.code, "message": failure.message, "attempt": run.attempt}
    if failure.retryable and run.attempt < max_attempts:
        requeue(tx, run, detail, at=at)
        return
    run.error = detail
    move(tx, run, Status.FAILED, kind="failed", detail=detail, at=at)
    tell(tx, run, "run.failed", at)
    _settle(tx, run, deletion_states.Status.FAILED, "failed", _SYSTEM, detail, at)


def requeue(tx: Session, run: Run, detail: Mapping[str, Any], *, at: datetime) -> None:
    """Take the run from its worker and ring for another; what the attempt reported stays in its ledger only.

    If somebody wants the run cancelled, it is cancelled instead.
    """
    if run.cancel_requested_at is not None:
        cancel(tx, run, at=at)
        return
    run.progress, run.gates = {}, []
    run.stop_reason = run.hardness = run.metrics = run.verdict = None
    run.verdict_reasons, run.unmet_targets = [], []
    Runs(tx).keep_scores(run.id, ())
    move(tx, run, Status.QUEUED, kind=REQUEUED, detail=detail, at=at)
    outbox.put_task(tx, EXECUTE, run.id)


def review(tx: Session, run: Run, outcome: Outcome, *, why: str, at: datetime) -> None:
    """Put the result before a person, its staged files kept."""
    run.staged = [asdict(file) for file in outcome.staged]
    move(tx, run, Status.NEEDS_REVIEW, kind="needs_review", detail=_shown(run, why=why, verdict=run.verdict), at=at)
    tell(tx, run, "run.needs_review", at)
    _settle(tx, run, deletion_states.Status.NEEDS_REVIEW, "needs_review", _SYSTEM, {"why": why}, at)


def decide(
    tx: Session, *, workspace_id: str, request_id: str, approve: bool, comment: str, actor: str, at: datetime
) -> None:
    """A person's decision on a request in ``needs_review``; it holds for its runs and so for all their requests.

    Approved, the staged weights are published if the model still stands where the run began; otherwise, and after a
    cancelled run, the requests go back to be run again. Rejected, run and requests have failed; their records stay
    out of every retain set. The run's timeline keeps who decided, what was said, and about which verdict. Raises
    ``RequestNotFound``; ``IllegalTransition`` when nothing waits for a decision; ``NothingChanged`` when weights are to
    be approved that are as they were.
    """
    requests, runs = Requests(tx), Runs(tx)
    request = requests.get_for(workspace_id, request_id)
    waiting = {t.run_id for t in requests.targets(request_id) if t.status == deletion_states.Status.NEEDS_REVIEW}
    locked = [runs.lock(run_id) for run_id in sorted(run_id for run_id in waiting if run_id is not None)]
    requests.serialise(workspace_id)
    (request,) = requests.lock([request_id])
    if request.status != deletion_states.Status.NEEDS_REVIEW:
        raise IllegalTransition(f"The request is {request.status}; there is nothing to decide.")
    said = {"comment": comment} if comment else {}
    for run in locked:
        if approve:
            _approve(tx, run, actor, said, at)
        else:
            _reject(tx, run, actor, said, at)
    action = "deletion_request.approved" if approve else "deletion_request.rejected"
    details = {"run_ids": [run.id for run in locked]}  # the comment may name somebody; the timeline has it
    audit.note(
        tx, workspace_id=workspace_id, actor=actor, action=action, object_id=request_id, details=details, at=at
    )  # fmt: skip


def _ruled(run: Run, outcome: Outcome) -> Decision:
    cancel_requested = run.cancel_requested_at is not None
    if run.mode == Mode.ASSESS:
        return rule_assessment(outcome, cancel_requested=cancel_requested)
    return rule(outcome, policy=from_json(run.policy), cancel_requested=cancel_requested)


def _assessed(tx: Session, run: Run, at: datetime) -> None:
    path = (Status.SUCCEEDED,) if run.status == Status.ASSESSING else (Status.ASSESSING, Status.SUCCEEDED)
    move(tx, run, *path, kind="assessed", detail={}, at=at)
    tell(tx, run, "run.succeeded", at)


def _publish_or_give_up(
    tx: Session, run: Run, staged: tuple[StoredFile, ...], publish_uri: str, max_attempts: int, at: datetime
) -> None:
    try:
        with tx.begin_nested():
            path = (Status.SUCCEEDED,) if run.status == Status.PUBLISHING else (Status.PUBLISHING, Status.SUCCEEDED)
            _publish(tx, run, path, staged, publish_uri, _SYSTEM, {}, at)
    except StaleBase:
        tx.refresh(run)
        latest = Versions(tx).resolve(run.model_id, LATEST).version
        requeue(tx, run, {"code": "base_superseded", "base": run.base_version, "latest": latest}, at=at)
        run.base_version = latest
    except NothingChanged:
        tx.refresh(run)
        fail(tx, run, Failure(NothingChanged.code, UNCHANGED, retryable=False), max_attempts=max_attempts, at=at)


def _publish(
    tx: Session,
    run: Run,
    path: tuple[Status, ...],
    staged: tuple[StoredFile, ...],
    publish_uri: str,
    actor: str,
    said: Mapping[str, Any],
    at: datetime,
) -> None:
    # Requests and records first, the model's row last: see the order of locks above.
    kind = "completed" if actor == _SYSTEM else "approved"
    _settle(tx, run, deletion_states.Status.COMPLETED, kind, actor, said, at)
    version = publish(
        tx,
        model_id=run.model_id,
        base_version=run.base_version,
        run_id=run.id,
        uri=publish_uri,
        files=staged,
        metrics=run.metrics,
        production_follows=bool(run.policy["production_follows"]),
        at=at,
    )
    run.published_version = version.version
    run.staged = []
    move(tx, run, *path, kind="succeeded", detail=_shown(run, version=version.version), at=at)
    tell(tx, run, "run.succeeded", at)


def _approve(tx: Session, run: Run, actor: str, said: Mapping[str, Any], at: datetime) -> None:
    staged = tuple(StoredFile(**file) for file in run.staged)
    if run.status == Status.NEEDS_REVIEW:
        if changed_nothing(run.gates):
            raise NothingChanged(UNCHANGED)
        Runs(tx).add_event(run, "approved", {"actor": actor, "verdict": run.verdict, **said}, at)
    if run.status == Status.NEEDS_REVIEW and staged:
        path = (Status.PUBLISHING, Status.SUCCEEDED)
        try:
            with tx.begin_nested():
                _publish(tx, run, path, staged, _folder_of(staged[0]), actor, said, at)
            return
        except StaleBase:
            tx.refresh(run)
    if run.status == Status.NEEDS_REVIEW:
        message = "The model has moved on since this result was made; its requests are run again."
        detail = {"code": "base_superseded", "message": message}
        run.error = detail
        run.staged = []
        move(tx, run, Status.FAILED, kind="failed", detail=detail, at=at)
    _settle(tx, run, deletion_states.Status.PENDING, "requeued", actor, said, at)


def _reject(tx: Session, run: Run, actor: str, said: Mapping[str, Any], at: datetime) -> None:
    detail = {"code": "rejected", "message": "A person rejected the result.", **said}
    if run.status == Status.NEEDS_REVIEW:
        run.error = detail
        run.staged = []
        decided = {"actor": actor, "verdict": run.verdict, **detail}
        move(tx, run, Status.FAILED, kind="rejected", detail=decided, at=at)
        tell(tx, run, "run.failed", at)
    _settle(tx, run, deletion_states.Status.FAILED, "rejected", actor, detail, at)


def _settle(
    tx: Session,
    run: Run,
    to: deletion_states.Status,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    at: datetime,
) -> None:
    if run.mode == Mode.ASSESS:  # nobody's request hangs on it, and no record
        return
    progress.settle(
        tx, workspace_id=run.workspace_id, run_id=run.id, to=to, kind=kind, actor=actor, detail=detail, at=at
    )


def _keep(tx: Session, run: Run, outcome: Outcome) -> None:
    run.stop_reason = outcome.stop_reason
    run.verdict, run.verdict_reasons = outcome.verdict, list(outcome.verdict_reasons)
    run.unmet_targets = [dict(target) for target in outcome.unmet_targets]
    Runs(tx).keep_scores(run.id, outcome.records)
    run.hardness = dict(outcome.hardness) if outcome.hardness is not None else run.hardness
    run.metrics = dict(outcome.metrics) if outcome.metrics is not None else run.metrics
    run.gates = [dict(gate) for gate in outcome.gates]
    run.worker = dict(outcome.worker) or run.worker
    run.timings = dict(outcome.timings)
    run.forget_records = outcome.forget_records or run.forget_records
    run.retain_records = outcome.retain_records or run.retain_records


def _shown(run: Run, **detail: Any) -> dict[str, Any]:
    """What an event in the timeline says, with the targets that were missed, if any."""
    return {**detail, "unmet_targets": run.unmet_targets} if run.unmet_targets else detail


def _folder_of(file: StoredFile) -> str:
    """The folder URI that a staged file lies under, whatever way its path is spelled in the URI."""
    depth = file.path.count("/") + 1
    return file.uri.rsplit("/", depth)[0] + "/"
