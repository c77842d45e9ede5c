"""What an assessment takes in, how it ends, and that nothing else notices."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core.access.tables import AuditEvent
from core.assessments import service
from core.assessments.commands import AssessmentView, LeftOut, SubmitAssessment
from core.assessments.errors import AssessmentNotFound, NothingToAssess
from core.datasets.tables import Record
from core.deletions import service as deletions
from core.deletions.commands import Identity
from core.deletions.errors import EmptySelection, TooManyIds, UnknownRecords, WrongDataset
from core.deletions.tables import DeletionRequest
from core.platform.errors import IllegalTransition
from core.platform.leases import Lease
from core.platform.outbox import OutboxRow
from core.platform.paging import Page
from core.policies import service as policies
from core.registry.tables import ModelVersion
from core.runs import finishing
from core.runs import service as runs
from core.runs.errors import RunNotFound
from core.runs.preparing import NothingToForget, keep, prepare
from core.runs.repository import RunFilter, Runs
from core.runs.tables import Run
from core.unlearning.job import SELECTION_FILE, Failure, Outcome, Progress, read_job
from tests.builders.estate import AT, KEYRING, Estate, estate, staged

pytestmark = pytest.mark.integration

MEASURED = Outcome(
    hardness={"verdict": "hard", "kappa": 0.1}, metrics={"before": {"forget": {"loss": 0.1}}}, forget_records=2
)


def ask(tx: Session, built: Estate, *record_ids: str, **fields: object) -> AssessmentView:
    command = SubmitAssessment(model="digits", record_ids=record_ids, **fields)  # type: ignore[arg-type]
    return service.submit(
        tx, workspace_id=built.workspace_id, actor="key_t", command=command, keyring=KEYRING, max_ids=10, at=AT
    )


def seen(tx: Session, built: Estate, view: AssessmentView) -> Run:
    tx.flush()
    tx.expire_all()
    return service.get(tx, workspace_id=built.workspace_id, assessment_id=view.run.id).run


def claimed(tx: Session, run_id: str) -> Lease:
    lease = runs.claim(tx, run_id=run_id, owner="test:1", ttl_s=60, at=AT)
    assert lease is not None
    return lease


def finish(tx: Session, lease: Lease, outcome: Outcome = MEASURED) -> str:
    return finishing.finish(tx, lease=lease, outcome=outcome, publish_uri="", max_attempts=2, at=AT)


def prepared(tx: Session, lease: Lease, folder: Path) -> dict[str, list[str]]:
    done = prepare(tx, lease=lease, folder=folder, uri=lambda key: f"file:///{key}", device="cpu", threads=1)
    keep(tx, lease=lease, prepared=done, at=AT)
    found: dict[str, list[str]] = {}
    for row in pq.read_table(folder / SELECTION_FILE).to_pylist():
        found.setdefault(row["set"], []).append(row["record_id"])
    return found


def everything(tx: Session) -> tuple[object, ...]:
    """All that an assessment must leave alone."""
    tx.flush()
    states = tx.execute(select(Record.state, func.count()).group_by(Record.state).order_by(Record.state)).all()
    requests = tx.execute(select(DeletionRequest.id, DeletionRequest.status, DeletionRequest.revision)).all()
    versions = tx.execute(select(ModelVersion.model_id, ModelVersion.version, ModelVersion.state)).all()
    return [tuple(row) for row in states], [tuple(row) for row in requests], [tuple(row) for row in versions]  # type: ignore[return-value]


def told(tx: Session) -> list[str]:
    return list(tx.scalars(select(OutboxRow.name).where(OutboxRow.topic == "event").order_by(OutboxRow.id)))


# Asking


def test_an_assessment_is_a_queued_run_of_its_own_kind(tx: Session) -> None:
    built = estate(tx)
    before = everything(tx)
    view = ask(tx, built, "r-0", "r-2", subject_ids=("writer-1",), identities=(Identity("email", "a@b.example"),))
    run = seen(tx, built, view)
    assert run.id.startswith("hrd_")
    assert (run.mode, run.status, run.base_version, run.forget_records) == ("assess", "queued", 1, 5)
    assert (run.policy_name, run.parameters["quota_ratio"]) == ("default", 0.5)
    assert Runs(tx).records(run.id) == ["r-0", "r-1", "r-2", "r-3", "r-5"]
    task = tx.execute(select(OutboxRow.name, OutboxRow.payload).where(OutboxRow.topic == "task")).one()
    assert tuple(task) == ("runs.execute", {"args": [run.id]})
    assert everything(tx) == before
    assert told(tx) == ["model_version.published"]  # when the estate was built
    assert tx.scalars(select(AuditEvent.action)).all() == ["hardness_assessment.submitted"]


def test_what_cannot_be_assessed_is_left_out_and_counted(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-1")
    view = ask(tx, built, "r-0", "r-1", "t-0")
    assert (view.run.forget_records, view.left_out) == (1, LeftOut(erased=0, pending_erasure=1, held_out=1))
    again = service.get(tx, workspace_id=built.workspace_id, assessment_id=view.run.id)
    assert again.left_out == view.left_out


@pytest.mark.parametrize(
    "named",
    [{"record_ids": ("t-0",)}, {"subject_ids": ("nobody",)}, {"record_ids": ("r-1",)}],
    ids=["held out", "unknown person", "waits for erasure"],
)
def test_nothing_to_assess_is_refused(tx: Session, named: dict[str, tuple[str, ...]]) -> None:
    built = estate(tx)
    built.submit(tx, "r-1")
    with pytest.raises(NothingToAssess):
        ask(tx, built, *named.get("record_ids", ()), subject_ids=named.get("subject_ids", ()))
    assert tx.scalars(select(Run.id)).all() == []


def test_selectors_are_judged_as_those_of_a_deletion_request(tx: Session) -> None:
    built = estate(tx)
    built.add_dataset(tx, "other")
    with pytest.raises(UnknownRecords) as refused:
        ask(tx, built, "r-0", "r-9", "r-8")
    assert [problem.pointer for problem in refused.value.problems] == ["/record_ids/1", "/record_ids/2"]
    with pytest.raises(WrongDataset):
        ask(tx, built, "r-0", dataset="other")
    with pytest.raises(EmptySelection):
        ask(tx, built)
    with pytest.raises(TooManyIds):
        ask(tx, built, *(f"r-{i}" for i in range(11)))
    with pytest.raises(policies.PolicyNotFound):
        ask(tx, built, "r-0", policy="nope")


def test_the_named_policy_is_assessed(tx: Session) -> None:
    built = estate(tx)
    body = {"parameters": {"quota_ratio": 0.25}}
    policies.put(tx, workspace_id=built.workspace_id, name="gentle", body=body, actor="k", at=AT)
    view = ask(tx, built, "r-0", policy="gentle")
    assert (view.run.policy_name, view.run.parameters["quota_ratio"]) == ("gentle", 0.25)


def test_others_find_nothing_and_runs_are_no_assessments(tx: Session) -> None:
    built, other = estate(tx), estate(tx)
    view = ask(tx, built, "r-0")
    built.submit(tx, "r-1")
    planned = runs.plan_next(tx, at=AT)
    assert planned is not None
    assert planned.run_id is not None
    for workspace_id, wanted in ((other.workspace_id, view.run.id), (built.workspace_id, planned.run_id)):
        with pytest.raises(AssessmentNotFound):
            service.get(tx, workspace_id=workspace_id, assessment_id=wanted)
        with pytest.raises(AssessmentNotFound):
            service.cancel(tx, workspace_id=workspace_id, assessment_id=wanted, actor="k", at=AT)
    with pytest.raises(RunNotFound):
        runs.get(tx, workspace_id=other.workspace_id, run_id=view.run.id)
    page = Page(limit=10)
    listed = service.search(tx, workspace_id=built.workspace_id, wanted=RunFilter(), page=page).data
    unlearning = runs.search(tx, workspace_id=built.workspace_id, wanted=RunFilter(), page=page).data
    assert [one.run.id for one in listed] == [view.run.id]
    assert [one.run.id for one in unlearning] == [planned.run_id]


# Working


def test_a_measured_assessment_succeeds_and_changes_nothing_else(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    built.submit(tx, "r-5")
    before = everything(tx)
    view = ask(tx, built, "r-0", "r-1")
    lease = claimed(tx, view.run.id)
    assert prepared(tx, lease, tmp_path) == {
        "forget": ["r-0", "r-1"],
        "retain": ["r-2", "r-3", "r-4"],
        "holdout": ["t-0", "t-1"],
    }
    assert read_job(tmp_path / "job.json").mode == "assess"
    earlier = told(tx)
    runs.record(tx, lease=lease, latest=Progress("assessing"), steps=[], ttl_s=60, at=AT)
    assert finish(tx, lease) == "succeeded"
    run = seen(tx, built, view)
    assert (run.status, run.hardness, run.retain_records) == ("succeeded", MEASURED.hardness, 3)
    assert (run.published_version, run.lease_token, run.finished_at) == (None, None, AT)
    assert [event.status for event in Runs(tx).events(run.id, after=0)] == [
        "queued", "preparing", "assessing", "succeeded",
    ]  # fmt: skip
    assert everything(tx) == before
    assert told(tx)[len(earlier) :] == ["hardness_assessment.completed"]


def test_an_end_that_came_before_its_phase_was_reported(tx: Session) -> None:
    built = estate(tx)
    view = ask(tx, built, "r-0")
    assert finish(tx, claimed(tx, view.run.id)) == "succeeded"
    assert seen(tx, built, view).status == "succeeded"


def test_it_goes_on_beside_a_run_that_unlearns_the_model(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-1")
    planned = runs.plan_next(tx, at=AT)
    assert planned is not None
    assert planned.run_id is not None
    ahead, behind = ask(tx, built, "r-0"), ask(tx, built, "r-2")
    unlearning = claimed(tx, planned.run_id)
    lease = claimed(tx, ahead.run.id)
    assert prepared(tx, lease, tmp_path)["forget"] == ["r-0"]
    assert finish(tx, lease) == "succeeded"
    uri = f"file:///objects/models/digits/v2/{unlearning.row_id}-1/"
    good = Outcome(stop_reason="target_reached", verdict="passed", staged=staged(uri))
    finishing.finish(tx, lease=unlearning, outcome=good, publish_uri=uri, max_attempts=1, at=AT)
    tx.expire_all()
    status = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert (status.request.status, status.run_ids) == ("completed", (planned.run_id,))
    late = claimed(tx, behind.run.id)
    prepared(tx, late, tmp_path)
    assert seen(tx, built, behind).base_version == 2
    assert finish(tx, late) == "succeeded"


def test_queued_assessments_do_not_hold_up_planning(tx: Session) -> None:
    built = estate(tx)
    ask(tx, built, "r-0")
    built.submit(tx, "r-0")
    planned = runs.plan_next(tx, at=AT)
    assert planned is not None
    assert planned.run_id is not None


def test_a_record_that_waits_for_erasure_meanwhile_is_still_assessed(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    view = ask(tx, built, "r-0", "r-1")
    built.submit(tx, "r-0")
    found = prepared(tx, claimed(tx, view.run.id), tmp_path)
    assert found["forget"] == ["r-0", "r-1"]


def test_what_the_model_has_unlearned_meanwhile_ends_the_assessment(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    view = ask(tx, built, "r-0")
    built.submit(tx, "r-0")
    planned = runs.plan_next(tx, at=AT)
    assert planned is not None
    unlearning = claimed(tx, str(planned.run_id))
    uri = f"file:///objects/models/digits/v2/{unlearning.row_id}-1/"
    good = Outcome(stop_reason="target_reached", verdict="passed", staged=staged(uri))
    finishing.finish(tx, lease=unlearning, outcome=good, publish_uri=uri, max_attempts=1, at=AT)
    lease = claimed(tx, view.run.id)
    with pytest.raises(NothingToForget):
        prepared(tx, lease, tmp_path)
    finishing.nothing_left(tx, lease=lease, at=AT)
    run = seen(tx, built, view)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "nothing_to_forget")
    assert told(tx)[-1] == "hardness_assessment.failed"


def test_a_crash_is_tried_again_and_a_refusal_is_not(tx: Session) -> None:
    built = estate(tx)
    before = everything(tx)
    view = ask(tx, built, "r-0")
    crash = Outcome(failure=Failure("child_crashed", "It fell over.", retryable=True))
    assert finish(tx, claimed(tx, view.run.id), crash) == "queued"
    assert finish(tx, claimed(tx, view.run.id)) == "succeeded"
    assert seen(tx, built, view).attempt == 2
    refused = ask(tx, built, "r-0")
    final = Outcome(failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False))
    assert finish(tx, claimed(tx, refused.run.id), final) == "failed"
    assert everything(tx) == before
    assert told(tx)[1:] == ["hardness_assessment.completed", "hardness_assessment.failed"]


def test_a_lost_worker_gives_the_assessment_back(tx: Session) -> None:
    built = estate(tx)
    view = ask(tx, built, "r-0")
    claimed(tx, view.run.id)
    tx.flush()
    tx.execute(text("update runs set lease_until = now() - interval '1 second'"))
    assert runs.reap_next(tx, max_attempts=3, at=AT) == view.run.id
    assert seen(tx, built, view).status == "queued"


def test_cancelling_ends_it_at_once_or_at_its_next_minibatch(tx: Session) -> None:
    built = estate(tx)
    waiting, working = ask(tx, built, "r-0"), ask(tx, built, "r-1")

    def cancel(view: AssessmentView) -> Run:
        return service.cancel(tx, workspace_id=built.workspace_id, assessment_id=view.run.id, actor="k", at=AT).run

    assert cancel(waiting).status == "cancelled"
    lease = claimed(tx, working.run.id)
    assert cancel(working).status == "preparing"
    assert finish(tx, lease) == "cancelled"
    with pytest.raises(IllegalTransition):
        cancel(working)
    assert (
        tx.scalars(select(AuditEvent.action).order_by(AuditEvent.sequence)).all()[2:]
        == ["hardness_assessment.cancelled"] * 2
    )
