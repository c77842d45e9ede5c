"""Use cases of hardness assessments: submit, look at, cancel. Nothing is erased and no record changes its state.

An assessment is a run of mode ``assess`` with an id of its own kind, so that it is claimed, leased, retried, reaped and
cancelled as every run is. The rule of one active run a model does not count it: it reads a version and writes nothing,
so it may go on beside a run that unlearns. Its records are kept with the run (``run_records``), what was left out of
them in the first line of its timeline.
"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from core.access import audit
from core.assessments.commands import AssessmentView, LeftOut, SubmitAssessment
from core.assessments.errors import AssessmentNotFound, NothingToAssess
from core.deletions.selection import check_size, find
from core.platform import outbox
from core.platform.ids import new_id
from core.platform.paging import Page, Slice
from core.platform.secrets import Keyring
from core.policies import service as policies
from core.registry.repository import LATEST, Models, Versions
from core.registry.tables import Model
from core.runs import service as runs
from core.runs.errors import RunNotFound
from core.runs.lifecycle import Mode
from core.runs.planning import EXECUTE, queued
from core.runs.repository import RunFilter, Runs
from core.runs.tables import Run


def submit(
    tx: Session,
    *,
    workspace_id: str,
    actor: str,
    command: SubmitAssessment,
    keyring: Keyring,
    max_ids: int,
    at: datetime,
) -> AssessmentView:
    """Queue an assessment of the active training records among those that are named.

    Raises ``NothingToAssess`` when there are none, ``EmptySelection``, ``TooManyIds``, ``PolicyNotFound`` and whatever
    ``selection.find`` raises.
    """
    wanted = command.as_deletion()
    check_size(wanted, max_ids)
    model = Models(tx).by_name(workspace_id, command.model)
    # States are read without the workspace's lock: they are not changed here, and looked at again before the work.
    (part,) = find(tx, workspace_id=workspace_id, command=wanted, keyring=keyring)
    forget = [record.record_id for record in part.covered if record.split == "train" and record.state == "active"]
    if not forget:
        raise NothingToAssess
    left_out = LeftOut.of(part)
    run = _queued(tx, model, command.policy, len(forget), at)
    Runs(tx).add(run)
    Runs(tx).set_records(run.id, forget)
    Runs(tx).add_event(run, "queued", {"left_out": left_out.as_dict()}, at)
    outbox.put_task(tx, EXECUTE, run.id)
    audit.note(
        tx, workspace_id=workspace_id, actor=actor, action="hardness_assessment.submitted", object_id=run.id,
        details={"record_count": len(forget)}, at=at,
    )  # fmt: skip
    return AssessmentView(run, model.name, left_out)


def get(tx: Session, *, workspace_id: str, assessment_id: str) -> AssessmentView:
    """Raises ``AssessmentNotFound``."""
    return _view(tx, [_found(tx, workspace_id, assessment_id)])[0]


def search(tx: Session, *, workspace_id: str, wanted: RunFilter, page: Page) -> Slice[AssessmentView]:
    """One page of the workspace's assessments, newest first, whatever ``wanted.mode``."""
    found = Runs(tx).page(workspace_id, dataclasses.replace(wanted, mode=Mode.ASSESS), page)
    return Slice(tuple(_view(tx, found.data)), found.next_cursor, found.has_more)


def cancel(tx: Session, *, workspace_id: str, assessment_id: str, actor: str, at: datetime) -> AssessmentView:
    """Stop it: at once while it is queued, at its next minibatch when a worker holds it; asking twice is fine.

    Raises ``AssessmentNotFound``; ``IllegalTransition`` when it has ended.
    """
    _found(tx, workspace_id, assessment_id)
    runs.cancel(tx, workspace_id=workspace_id, run_id=assessment_id, actor=actor, at=at)
    return get(tx, workspace_id=workspace_id, assessment_id=assessment_id)


def _found(tx: Session, workspace_id: str, assessment_id: str) -> Run:
    try:
        run = Runs(tx).get_for(workspace_id, assessment_id)
    except RunNotFound:
        raise AssessmentNotFound(assessment_id) from None
    if run.mode != Mode.ASSESS:
        raise AssessmentNotFound(assessment_id)
    return run


def _queued(tx: Session, model: Model, policy_name: str | None, records: int, at: datetime) -> Run:
    name, policy = policies.effective(tx, model.workspace_id, policy_name or model.policy)
    base = Versions(tx).resolve(model.id, LATEST).version
    return queued(
        id=new_id("hrd"), mode=Mode.ASSESS, model=model, base_version=base, policy_name=name, policy=policy,
        forget_records=records, due_at=at, at=at,
    )  # fmt: skip


def _view(tx: Session, found: Sequence[Run]) -> Sequence[AssessmentView]:
    names = Runs(tx).model_names(found)
    said = Runs(tx).first_details([run.id for run in found])
    return [
        AssessmentView(run, names[run.model_id], LeftOut(**said.get(run.id, {}).get("left_out", {}))) for run in found
    ]
