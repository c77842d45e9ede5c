"""How work is done in a sandbox: planned, claimed, moved on and ended as everywhere, with an outcome made up.

A run stays in each phase for as long as its lease lasts. Nothing is computed and no file is written. Requests are
planned one by one, whatever the policy says about batches, so that the outcome forced on one is no other's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from core.deletions.repository import Requests
from core.deletions.stand_ins import Word, word_of
from core.platform.leases import Lease, new_token
from core.policies import service as policies
from core.registry.repository import LATEST, Models, Versions
from core.runs import finishing, service
from core.runs.lifecycle import PHASES, Mode, Status
from core.runs.planning import take
from core.runs.repository import Runs
from core.runs.tables import Run
from core.sandbox import world
from core.sandbox.repository import Sandboxes
from core.unlearning.job import Failure, Outcome, Phase, Progress

PACE_S: Final = 1.0
"""How long a run stays in a phase."""
SLOW_S: Final = 600.0
"""How long one that is to be slow stays in ``unlearning``."""
_OWNER: Final = "sandbox"
_SAYS: Final = "Test mode: nothing was computed or measured."
_FORCED: Final = Failure("forced_failure", "Test mode: this failure was asked for by a magic name.", retryable=False)


def plan_next(tx: Session, *, at: datetime) -> str | None:
    """Queue a run for one request whose hold is over; the request's id, or None when there is none."""
    found = Sandboxes(tx).next_pending()
    if found is None:
        return None
    request_id, waiting = found
    requests = Requests(tx)
    requests.serialise(waiting.workspace_id)
    if request_id not in requests.take_pending(waiting.model_id, waiting.policy):  # it is being cancelled
        return None
    named = waiting.policy or Models(tx).get(waiting.model_id).policy
    name, policy = policies.effective(tx, waiting.workspace_id, named)
    take(tx, waiting, [request_id], name, policy, at)
    return request_id


def move_next(tx: Session, *, uri: Callable[[str], str], at: datetime) -> str | None:
    """Claim one run that is queued or move on one whose time in its phase is over; its id, or None."""
    lease = service.claim(tx, run_id=None, owner=_OWNER, ttl_s=PACE_S, at=at, sandbox=True)
    if lease is not None:
        return lease.row_id
    run = Runs(tx).next_expired(sandbox=True)
    if run is None:
        return None
    lease = Lease(run.id, new_token(), run.attempt)
    Runs(tx).grant(run, owner=_OWNER, token=lease.token, ttl_s=PACE_S)
    tx.flush()
    _move(tx, run, lease, uri, at)
    return run.id


def _move(tx: Session, run: Run, lease: Lease, uri: Callable[[str], str], at: datetime) -> None:
    word = _forced(tx, run)
    phase = _after(run, word)
    if phase is None or run.cancel_requested_at is not None:
        _finish(tx, run, lease, word, uri, at)
        return
    is_slow = word == Word.SLOW and phase == "unlearning"
    service.record(tx, lease=lease, latest=Progress(phase), steps=(), ttl_s=SLOW_S if is_slow else PACE_S, at=at)


def _after(run: Run, word: Word | None) -> Phase | None:
    """The phase behind the run's; None: what comes is its end."""
    last = Status.ASSESSING if run.mode == Mode.ASSESS else Status.EVALUATING
    if run.status == last or (run.status == Status.UNLEARNING and word == Word.FAIL):
        return None
    return _PHASES[PHASES.index(Status(run.status)) + 1]


_PHASES: Final[tuple[Phase, ...]] = ("preparing", "assessing", "unlearning", "evaluating")


def _forced(tx: Session, run: Run) -> Word | None:
    """The outcome that the run's records ask for. It holds for a request's first run: what was approved succeeds."""
    requests = Requests(tx)
    if run.mode == Mode.ASSESS:
        return _strongest(Runs(tx).records(run.id))
    request_ids = requests.of_run(run.id)
    if any(len(runs) > 1 for runs in requests.runs_of(request_ids).values()):
        return None
    return _strongest(requests.forget_ids(run.model_id, request_ids))


def _strongest(record_ids: Sequence[str]) -> Word | None:
    words = {word_of(record_id) for record_id in record_ids}
    return next((word for word in (Word.FAIL, Word.REVIEW, Word.SLOW) if word in words), None)


def _finish(tx: Session, run: Run, lease: Lease, word: Word | None, uri: Callable[[str], str], at: datetime) -> None:
    latest = Versions(tx).resolve(run.model_id, LATEST).version
    if run.base_version != latest:
        detail = {"code": "base_superseded", "base": run.base_version, "latest": latest}
        Runs(tx).add_event(run, "rebased", detail, at)
        run.base_version = latest
        tx.flush()
    name = f"{run.id}-{run.attempt}"
    outcome = _outcome(run, word)
    if outcome.verdict is not None:
        outcome = replace(outcome, staged=world.weights(name, uri))
    finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=world.folder(name, uri), max_attempts=1, at=at)


def _outcome(run: Run, word: Word | None) -> Outcome:
    if word == Word.FAIL:
        return Outcome(failure=_FORCED)
    if run.mode == Mode.ASSESS:
        return Outcome(hardness={"verdict": "easy", "advice": _SAYS}, forget_records=run.forget_records)
    return Outcome(
        stop_reason="target_reached",
        verdict="inconclusive" if word == Word.REVIEW else "passed",
        verdict_reasons=(_SAYS,),
        forget_records=run.forget_records,
    )
