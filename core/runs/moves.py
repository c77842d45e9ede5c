"""The one place that changes a run's state: move, timeline, webhook event. The run's row must be locked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.platform import outbox
from core.platform.errors import IllegalTransition
from core.registry.repository import Models
from core.runs.lifecycle import ACTIVE, FINAL, LEASED, IllegalMove, Mode, Status, advance
from core.runs.repository import Runs
from core.runs.tables import Run


def move(tx: Session, run: Run, *path: Status, kind: str, detail: Mapping[str, Any], at: datetime) -> None:
    """Take the run along ``path``, one line of the timeline for each state; ``kind`` names the last.

    Only the last state is written to the row: a run that passes through several in one transaction was never seen in
    between. Leaving the leased states ends the lease. Raises ``IllegalTransition``, before anything is written.
    """
    state, visited = Status(run.status), list[Status]()
    for step in path:
        try:
            state = advance(state, step, why=kind, at=at, mode=Mode(run.mode)).after
        except IllegalMove as error:
            raise IllegalTransition(f"The run is {run.status} and cannot become {step}.") from error
        visited.append(state)
    runs = Runs(tx)
    with tx.no_autoflush:
        run.status = state
        run.revision += 1
        if state not in LEASED:
            runs.release(run)
        if state not in ACTIVE:
            run.checkpoint_key = None  # from now on nobody can read its checkpoints, copies of them included
        if state in FINAL:
            run.finished_at = at
    for passed in visited[:-1]:
        runs.add_event(run, "phase", detail, at, status=passed)
    runs.add_event(run, kind, detail, at)


_OF_ASSESSMENTS: Final = {
    "run.succeeded": "hardness_assessment.completed",
    "run.failed": "hardness_assessment.failed",
    "run.cancelled": "hardness_assessment.cancelled",
}
"""What is told of a run that only assesses: its end."""


def tell(tx: Session, run: Run, event: str, at: datetime) -> None:
    """Tell webhook receivers: ids, state and counts. Of an assessment its end alone, under a name of its own."""
    if run.mode == Mode.ASSESS:
        _tell_assessed(tx, run, event, at)
        return
    data = {
        "id": run.id,
        "model": Models(tx).get(run.model_id).name,
        "status": run.status,
        "base_version": run.base_version,
        "published_version": run.published_version,
        "stop_reason": run.stop_reason,
        "verdict": run.verdict,
        "unmet_targets": [target["name"] for target in run.unmet_targets],
        "forget_records": run.forget_records,
        "attempt": run.attempt,
        "sequence": run.revision,
    }
    outbox.put_event(tx, workspace_id=run.workspace_id, type=event, data=data, at=at)


def _tell_assessed(tx: Session, run: Run, event: str, at: datetime) -> None:
    name = _OF_ASSESSMENTS.get(event)
    if name is None:
        return
    data = {
        "id": run.id,
        "model": Models(tx).get(run.model_id).name,
        "status": run.status,
        "base_version": run.base_version,
        "verdict": (run.hardness or {}).get("verdict") if run.status == Status.SUCCEEDED else None,
        "record_count": run.forget_records,
        "sequence": run.revision,
    }
    outbox.put_event(tx, workspace_id=run.workspace_id, type=name, data=data, at=at)
