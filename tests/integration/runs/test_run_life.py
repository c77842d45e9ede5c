"""From waiting requests to a published version, and every other way a run can end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from core.datasets.tables import Record
from core.deletions import service as deletions
from core.deletions.tables import DeletionTarget
from core.platform.errors import IllegalTransition
from core.platform.leases import Lease, LeaseLost
from core.platform.outbox import OutboxRow
from core.policies import service as policies
from core.registry.tables import ModelAlias, ModelVersion
from core.runs import finishing, service
from core.runs.errors import RunNotFound
from core.runs.preparing import NothingToForget, keep, prepare
from core.runs.repository import Runs
from core.runs.tables import Run, RunStep
from core.unlearning.job import SELECTION_FILE, Failure, Outcome, Progress, read_job
from tests.builders.estate import AT, Estate, estate, staged

pytestmark = pytest.mark.integration

MOVED = {"name": "displacement", "value": 0.3, "passed": True, "status": "passed"}
UNMOVED = {"name": "displacement", "value": 0.0, "passed": False, "status": "failed"}
METRICS = {"before": {"forget": {"loss": 0.1}}, "after": {"forget": {"loss": 1.1}}}


def planned(tx: Session) -> str:
    made = service.plan_next(tx, at=AT)
    assert made is not None
    assert made.run_id is not None
    return made.run_id


def claimed(tx: Session, run_id: str | None = None) -> Lease:
    lease = service.claim(tx, run_id=run_id, owner="test:1", ttl_s=60, at=AT)
    assert lease is not None
    return lease


def good(lease: Lease) -> Outcome:
    return Outcome(
        stop_reason="target_reached", metrics=METRICS, gates=(MOVED,), verdict="passed", staged=staged(folder(lease))
    )


def bad(lease: Lease) -> Outcome:
    return replace(good(lease), verdict="failed", verdict_reasons=("gap_closed is 0.1.",))


def folder(lease: Lease) -> str:
    return f"file:///objects/models/digits/v2/{lease.row_id}-{lease.attempt}/"


def finish(tx: Session, lease: Lease, outcome: Outcome, *, max_attempts: int = 3) -> str:
    uri = folder(lease)
    return finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=max_attempts, at=AT)


def run_of(tx: Session, lease: Lease) -> Run:
    tx.flush()
    tx.expire_all()
    return Runs(tx).get(lease.row_id)


def status(tx: Session, built: Estate, request_id: str) -> str:
    tx.expire_all()
    return deletions.get(tx, workspace_id=built.workspace_id, request_id=request_id).request.status


def latest(tx: Session, built: Estate, model: str = "digits") -> int | None:
    alias = select(ModelAlias.version).where(ModelAlias.model_id == built.models[model], ModelAlias.alias == "latest")
    return tx.scalar(alias)


def sent(tx: Session, topic: str = "event") -> list[str]:
    return list(tx.scalars(select(OutboxRow.name).where(OutboxRow.topic == topic).order_by(OutboxRow.id)))


def record_states(tx: Session, built: Estate) -> dict[str, int]:
    rows = tx.execute(
        select(Record.state, func.count()).where(Record.dataset_id == built.datasets["digits"]).group_by(Record.state)
    )
    return dict(rows.all())


# Planning


def test_all_pending_requests_of_a_model_are_taken_together(tx: Session) -> None:
    built = estate(tx, models=("digits", "other"))
    first, second = built.submit(tx, "r-0", "r-1"), built.submit(tx, "r-1", "r-2", "t-0")
    built.submit(tx, "r-3", model="other")
    run_id = planned(tx)
    view = service.get(tx, workspace_id=built.workspace_id, run_id=run_id)
    assert set(view.deletion_request_ids) == {first.request.id, second.request.id}
    assert (view.run.status, view.run.base_version, view.run.forget_records) == ("queued", 1, 3)
    assert view.run.policy_name == "default"
    assert view.run.parameters["method"] == "hamu-q"
    assert sent(tx, "task") == ["runs.execute"]
    for request in (first, second):
        seen = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
        assert (seen.request.status, seen.request.status_detail, seen.run_ids) == ("in_progress", "running", (run_id,))
    assert planned(tx) != run_id  # the other model's
    assert service.plan_next(tx, at=AT) is None


def test_a_model_has_one_active_run(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    run_id = planned(tx)
    later = built.submit(tx, "r-1")
    assert service.plan_next(tx, at=AT) is None
    assert status(tx, built, later.request.id) == "pending"
    finish(tx, lease := claimed(tx), good(lease))
    assert planned(tx) != run_id


def test_held_requests_wait_and_are_taken_when_the_hold_ends(tx: Session) -> None:
    built = estate(tx)
    now = datetime.now(UTC)
    view = built.submit(tx, "r-0", hold_seconds=3600, at=now)
    assert view.request.status_detail == "held"
    assert service.plan_next(tx, at=now) is None
    tx.execute(text("update deletion_requests set hold_until = now() - interval '1 second'"))
    assert planned(tx)


def test_a_policys_window_gathers_requests(tx: Session) -> None:
    built = estate(tx)
    policies.put(tx, workspace_id=built.workspace_id, name="patient", body={"batch_window_s": 3600}, actor="k", at=AT)
    built.submit(tx, "r-0", policy="patient", at=datetime.now(UTC))
    assert service.plan_next(tx, at=AT) is None
    built.submit(tx, "r-1", policy="patient", at=datetime.now(UTC) - timedelta(hours=2))
    assert run_policy(tx, planned(tx)) == "patient"
    assert service.plan_next(tx, at=AT) is None


def run_policy(tx: Session, run_id: str) -> str:
    return Runs(tx).get(run_id).policy_name


def test_requests_for_another_policy_get_a_run_of_their_own(tx: Session) -> None:
    built = estate(tx)
    body = {"parameters": {"max_steps": 7}}
    policies.put(tx, workspace_id=built.workspace_id, name="short", body=body, actor="k", at=AT)
    built.submit(tx, "r-0")
    built.submit(tx, "r-1", policy="short", at=AT + timedelta(seconds=1))
    first = planned(tx)
    assert run_policy(tx, first) == "default"
    finish(tx, lease := claimed(tx), good(lease))
    second = Runs(tx).get(planned(tx))
    assert (second.policy_name, second.parameters["max_steps"], second.base_version) == ("short", 7, 2)


def test_what_the_model_has_forgotten_meanwhile_needs_no_run(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    again = built.submit(tx, "r-0")
    finish(tx, lease, good(lease))
    made = service.plan_next(tx, at=AT)
    assert made is not None
    assert made.run_id is None
    assert status(tx, built, again.request.id) == "completed"


# Claiming and reporting


def test_a_claim_is_an_attempt_with_a_token_of_its_own(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    run_id = planned(tx)
    assert service.claim(tx, run_id="run_nope", owner="a", ttl_s=60, at=AT) is None
    lease = claimed(tx, run_id)
    assert lease.attempt == 1
    assert service.claim(tx, run_id=None, owner="b", ttl_s=60, at=AT) is None
    run = run_of(tx, lease)
    assert (run.status, run.lease_owner, run.started_at) == ("preparing", "test:1", AT)
    service.release(tx, lease=lease, why={"code": "worker_stopped"}, at=AT)
    assert run_of(tx, lease).status == "queued"
    other = claimed(tx)
    assert (other.attempt, other.token != lease.token) == (2, True)
    assert sent(tx).count("run.started") == 1


def test_reports_are_written_under_the_lease(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    rows = [{"step": 1, "kappa": 0.2}, {"step": 2, "kappa": 0.1}]
    latest_report = Progress("unlearning", step=2, max_steps=9, eta_seconds=1.5, hardness={"verdict": "hard"})
    assert not service.record(tx, lease=lease, latest=latest_report, steps=rows, ttl_s=60, at=AT)
    service.record(tx, lease=lease, latest=Progress("assessing"), steps=rows[1:], ttl_s=60, at=AT)
    run = run_of(tx, lease)
    assert (run.status, run.hardness) == ("unlearning", {"verdict": "hard"})
    assert run.progress == {"phase": "unlearning", "step": 2, "max_steps": 9, "eta_seconds": 1.5}
    ledger = service.steps(tx, workspace_id=built.workspace_id, run_id=run.id, after=1)
    assert [step.row for step in ledger] == rows[1:]
    assert [event.status for event in Runs(tx).events(run.id, after=1)] == ["preparing", "unlearning"]


@pytest.mark.parametrize("why", ["taken over", "expired"])
def test_a_zombie_writes_nothing(tx: Session, why: str) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    zombie = claimed(tx, planned(tx))
    if why == "expired":
        expire(tx)
    else:
        service.release(tx, lease=zombie, why={"code": "worker_stopped"}, at=AT)
        claimed(tx)
    before = run_of(tx, zombie).revision
    report = Progress("unlearning", step=1)
    for write in (
        lambda: service.heartbeat(tx, lease=zombie, ttl_s=60),
        lambda: service.record(tx, lease=zombie, latest=report, steps=[{"step": 1}], ttl_s=60, at=AT),
        lambda: service.release(tx, lease=zombie, why={"code": "worker_stopped"}, at=AT),
        lambda: finish(tx, zombie, good(zombie)),
        lambda: finish(tx, zombie, Outcome(failure=Failure("x", "y", retryable=False))),
        lambda: finishing.nothing_left(tx, lease=zombie, at=AT),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert run_of(tx, zombie).revision == before
    assert tx.scalars(select(RunStep)).all() == []
    assert latest(tx, built) == 1


def expire(tx: Session) -> None:
    tx.execute(update(Run).values(lease_until=text("now() - interval '1 second'")))
    tx.expire_all()


# Preparing


def test_the_job_names_base_files_selection_and_a_folder_of_its_own(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    built.submit(tx, "r-0", "t-0")
    waiting = built.submit(tx, "r-1")
    lease = claimed(tx, planned(tx))
    built.submit(tx, "r-2")  # accepted after the run was planned: not forgotten by it, and not retained either
    built.publish(tx, "digits", base=1)
    made = prepare(tx, lease=lease, folder=tmp_path, uri=lambda key: f"s3://b/{key}", device="cpu", threads=1)
    keep(tx, lease=lease, prepared=made, at=AT)
    assert read_job(tmp_path / "job.json") == made.job
    assert made.job.publish_uri == f"s3://b/models/digits/v3/{lease.row_id}-1/"
    assert made.job.model_files == staged("file:///nowhere/digits/v2/")
    rows = pq.read_table(tmp_path / SELECTION_FILE).to_pylist()
    sets = {(row["set"], row["record_id"]) for row in rows}
    assert sets == {
        *(("forget", name) for name in ("r-0", "r-1")),
        *(("retain", name) for name in ("r-3", "r-4", "r-5")),
        ("holdout", "t-1"),
    }
    run = run_of(tx, lease)
    assert (run.base_version, run.forget_records, run.retain_records) == (2, 2, 3)
    assert waiting.request.id in service.get(tx, workspace_id=built.workspace_id, run_id=run.id).deletion_request_ids


# Ending


def test_publishing_ends_everything_in_one_transaction(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0", "r-1", "t-0")
    lease = claimed(tx, planned(tx))
    assert finish(tx, lease, good(lease)) == "succeeded"
    run = run_of(tx, lease)
    assert (run.status, run.published_version, run.stop_reason) == ("succeeded", 2, "target_reached")
    assert (run.lease_token, run.lease_until, run.finished_at) == (None, None, AT)
    assert (run.metrics, run.gates) == (METRICS, [MOVED])
    version = tx.scalars(select(ModelVersion).where(ModelVersion.run_id == run.id)).one()
    assert (version.version, version.parent_version, version.uri) == (2, 1, folder(lease))
    assert latest(tx, built) == 2
    assert record_states(tx, built) == {"active": 5, "erased": 3}
    seen = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert (seen.request.status, seen.request.status_detail, seen.request.finished_at) == ("completed", "done", AT)
    timeline = deletions.timeline(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert [(event.type, event.status) for event in timeline] == [
        ("created", "pending"),
        ("started", "in_progress"),
        ("completed", "completed"),
    ]
    assert [event.sequence for event in timeline] == [1, 2, 3]
    assert {"run.succeeded", "model_version.published", "deletion_request.completed"} <= set(sent(tx))
    with pytest.raises(LeaseLost):
        finish(tx, lease, good(lease))
    assert len(tx.scalars(select(ModelVersion)).all()) == 2


def test_a_request_over_several_models_ends_when_each_has_forgotten(tx: Session) -> None:
    built = estate(tx, models=("digits", "other"))
    request = built.submit(tx, "r-0", model=None, dataset="digits")
    first, second = claimed(tx, planned(tx)), claimed(tx, planned(tx))
    finish(tx, first, good(first))
    assert status(tx, built, request.request.id) == "in_progress"
    assert record_states(tx, built)["pending_erasure"] == 1
    finish(tx, second, good(second))
    assert status(tx, built, request.request.id) == "completed"
    assert record_states(tx, built)["erased"] == 1
    view = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert set(view.run_ids) == {first.row_id, second.row_id}


def test_one_failed_model_fails_the_request_once_the_others_have_ended(tx: Session) -> None:
    built = estate(tx, models=("digits", "other"))
    request = built.submit(tx, "r-0", model=None, dataset="digits")
    first, second = claimed(tx, planned(tx)), claimed(tx, planned(tx))
    finish(tx, first, Outcome(failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False)))
    assert status(tx, built, request.request.id) == "in_progress"
    finish(tx, second, good(second))
    assert status(tx, built, request.request.id) == "failed"
    assert record_states(tx, built)["pending_erasure"] == 1  # the wish stands: never retained again


def test_a_final_failure_tells_the_request_why(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    failure = Failure("bad_record", "Row 3 cannot be used.", retryable=False)
    assert finish(tx, lease, Outcome(failure=failure)) == "failed"
    view = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert view.request.status == "failed"
    assert view.error is not None
    assert (view.error["code"], view.error["message"]) == ("bad_record", "Row 3 cannot be used.")
    error = run_of(tx, lease).error
    assert error is not None
    assert error["code"] == "bad_record"
    assert {"run.failed", "deletion_request.failed"} <= set(sent(tx))


def test_a_retryable_failure_is_tried_again_until_the_attempts_are_spent(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    planned(tx)
    failure = Outcome(failure=Failure("killed", "Out of memory.", retryable=True))
    assert finish(tx, claimed(tx), failure, max_attempts=2) == "queued"
    assert sent(tx, "task") == ["runs.execute"] * 2
    assert status(tx, built, request.request.id) == "in_progress"
    assert finish(tx, claimed(tx), failure, max_attempts=2) == "failed"
    assert status(tx, built, request.request.id) == "failed"


def test_a_failed_verdict_waits_for_a_person_who_approves(tx: Session) -> None:
    built = estate(tx)
    first, second = built.submit(tx, "r-0"), built.submit(tx, "r-1")
    lease = claimed(tx, planned(tx))
    assert finish(tx, lease, bad(lease)) == "needs_review"
    assert latest(tx, built) == 1
    for request in (first, second):
        assert status(tx, built, request.request.id) == "needs_review"
    assert sent(tx).count("deletion_request.needs_attention") == 2
    decide(tx, built, first.request.id, approve=True)
    run = run_of(tx, lease)
    assert (run.status, run.published_version, latest(tx, built)) == ("succeeded", 2, 2)
    for request in (first, second):
        assert status(tx, built, request.request.id) == "completed"
    version = tx.scalars(select(ModelVersion).where(ModelVersion.run_id == run.id)).one()
    assert version.uri == folder(lease)
    timeline = deletions.timeline(tx, workspace_id=built.workspace_id, request_id=first.request.id)
    assert [event.status for event in timeline][-3:] == ["needs_review", "in_progress", "completed"]
    assert timeline[-1].detail["comment"] == "because"
    with pytest.raises(IllegalTransition):
        decide(tx, built, first.request.id, approve=True)


def decide(tx: Session, built: Estate, request_id: str, *, approve: bool) -> None:
    finishing.decide(
        tx,
        workspace_id=built.workspace_id,
        request_id=request_id,
        approve=approve,
        comment="because",
        actor="key_p",
        at=AT,
    )


def test_a_person_rejects(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    finish(tx, lease, bad(lease))
    decide(tx, built, request.request.id, approve=False)
    assert (run_of(tx, lease).status, latest(tx, built)) == ("failed", 1)
    assert status(tx, built, request.request.id) == "failed"
    assert record_states(tx, built)["pending_erasure"] == 1
    again = built.submit(tx, "r-0")
    assert again.request.record_count == 1
    lease = claimed(tx, planned(tx))
    finish(tx, lease, good(lease))
    assert status(tx, built, again.request.id) == "completed"
    assert record_states(tx, built)["erased"] == 1


def test_approving_a_result_of_an_old_base_runs_it_again(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    finish(tx, lease, bad(lease))
    later = built.submit(tx, "r-1")
    second = claimed(tx, planned(tx))
    finish(tx, second, replace(good(second), staged=staged(folder(second))))
    assert latest(tx, built) == 2
    decide(tx, built, request.request.id, approve=True)
    assert run_of(tx, lease).status == "failed"
    view = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert (view.request.status, view.request.status_detail) == ("in_progress", "queued")
    third = claimed(tx, planned(tx))
    finish(tx, third, good(third))
    assert (latest(tx, built), status(tx, built, request.request.id)) == (3, "completed")
    assert status(tx, built, later.request.id) == "completed"
    view = deletions.get(tx, workspace_id=built.workspace_id, request_id=request.request.id)
    assert view.run_ids == (lease.row_id, third.row_id)


def test_approving_while_another_run_is_at_work_publishes_and_the_other_starts_again(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    finish(tx, lease, bad(lease))
    later = built.submit(tx, "r-1")
    second = claimed(tx, planned(tx))
    decide(tx, built, request.request.id, approve=True)
    assert latest(tx, built) == 2
    assert finish(tx, second, good(second)) == "queued"  # its base is version 1, and that is not the latest
    run = run_of(tx, second)
    assert (run.base_version, run.published_version, run.stop_reason) == (2, None, None)
    assert status(tx, built, later.request.id) == "in_progress"
    assert record_states(tx, built) == {"active": 6, "erased": 1, "pending_erasure": 1}
    third = claimed(tx, second.row_id)
    finish(tx, third, good(third))
    assert (latest(tx, built), status(tx, built, later.request.id)) == (3, "completed")


def test_a_run_whose_records_were_forgotten_meanwhile_completes_its_requests(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    finish(tx, lease, bad(lease))
    later = built.submit(tx, "r-0")
    second = claimed(tx, planned(tx))
    decide(tx, built, request.request.id, approve=True)
    with pytest.raises(NothingToForget):
        prepare(tx, lease=second, folder=tmp_path, uri=str, device="cpu", threads=None)
    finishing.nothing_left(tx, lease=second, at=AT)
    assert (run_of(tx, second).status, status(tx, built, later.request.id)) == ("cancelled", "completed")


# Cancelling


def test_a_queued_run_is_cancelled_at_once_and_its_requests_wait_for_a_person(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    run_id = planned(tx)
    view = service.cancel(tx, workspace_id=built.workspace_id, run_id=run_id, actor="k", at=AT)
    assert view.run.status == "cancelled"
    assert status(tx, built, request.request.id) == "needs_review"
    assert service.plan_next(tx, at=AT) is None
    with pytest.raises(IllegalTransition):
        service.cancel(tx, workspace_id=built.workspace_id, run_id=run_id, actor="k", at=AT)
    decide(tx, built, request.request.id, approve=True)
    lease = claimed(tx, planned(tx))
    finish(tx, lease, good(lease))
    assert status(tx, built, request.request.id) == "completed"


def test_a_run_at_work_is_told_to_stop_and_publishes_nothing(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    assert not service.heartbeat(tx, lease=lease, ttl_s=60)
    for _ in range(2):
        service.cancel(tx, workspace_id=built.workspace_id, run_id=lease.row_id, actor="k", at=AT)
    assert run_of(tx, lease).status == "preparing"
    assert service.heartbeat(tx, lease=lease, ttl_s=60)
    assert finish(tx, lease, good(lease)) == "cancelled"
    assert latest(tx, built) == 1
    assert status(tx, built, request.request.id) == "needs_review"
    decide(tx, built, request.request.id, approve=False)
    assert status(tx, built, request.request.id) == "failed"


def test_a_run_in_progress_cannot_be_cancelled_by_its_request(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    planned(tx)
    with pytest.raises(IllegalTransition):
        deletions.cancel(tx, workspace_id=built.workspace_id, request_id=request.request.id, actor="k", at=AT)
    assert tx.scalars(select(DeletionTarget.status)).all() == ["in_progress"]


def test_runs_of_another_workspace_do_not_exist(tx: Session) -> None:
    built, other = estate(tx), estate(tx)
    built.submit(tx, "r-0")
    run_id = planned(tx)
    with pytest.raises(RunNotFound):
        service.get(tx, workspace_id=other.workspace_id, run_id=run_id)
    with pytest.raises(RunNotFound):
        service.cancel(tx, workspace_id=other.workspace_id, run_id=run_id, actor="k", at=AT)


# Reaping


def test_a_lost_worker_is_replaced_until_the_attempts_are_spent(tx: Session) -> None:
    built = estate(tx)
    request = built.submit(tx, "r-0")
    run_id = planned(tx)
    claimed(tx)
    assert service.reap_next(tx, max_attempts=2, at=AT) is None
    expire(tx)
    assert service.reap_next(tx, max_attempts=2, at=AT) == run_id
    assert service.reap_next(tx, max_attempts=2, at=AT) is None
    assert sent(tx, "task") == ["runs.execute"] * 2
    lease = claimed(tx)
    expire(tx)
    service.reap_next(tx, max_attempts=2, at=AT)
    assert run_of(tx, lease).status == "failed"
    assert status(tx, built, request.request.id) == "failed"


def test_a_lost_worker_of_a_cancelled_run_is_not_replaced(tx: Session) -> None:
    built = estate(tx)
    built.submit(tx, "r-0")
    lease = claimed(tx, planned(tx))
    service.cancel(tx, workspace_id=built.workspace_id, run_id=lease.row_id, actor="k", at=AT)
    expire(tx)
    service.reap_next(tx, max_attempts=3, at=AT)
    assert run_of(tx, lease).status == "cancelled"
