"""The key of a run's checkpoints lives as long as the run may need it, and not a transaction longer."""

from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.assessments import service as assessments
from core.assessments.commands import SubmitAssessment
from core.platform.leases import Lease
from core.platform.secrets import Keyring
from core.runs import finishing, service
from core.runs.checkpoints import CheckpointRule
from core.runs.preparing import keep, prepare
from core.runs.repository import Runs
from core.runs.tables import Run
from core.unlearning.job import KILLED, Checkpointing, Failure, Outcome, Progress, read_job
from tests.builders.estate import AT, KEYRING, Estate, estate, staged

pytestmark = pytest.mark.integration
RULE = CheckpointRule(KEYRING, every_s=60.0, every_steps=0)


def claimed(tx: Session, run_id: str | None = None) -> Lease:
    lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT)
    assert lease is not None
    return lease


def told(tx: Session, lease: Lease, folder: Path, rule: CheckpointRule | None = RULE) -> Checkpointing | None:
    """What the child of a claimed run would read."""
    made = prepare(tx, lease=lease, folder=folder, uri=lambda key: f"s3://b/{key}", device="cpu", threads=1, rule=rule)
    keep(tx, lease=lease, prepared=made, at=AT)
    return read_job(folder / "job.json").checkpoints


@pytest.fixture
def begun(tx: Session, tmp_path: Path) -> tuple[Estate, Lease, str]:
    """A run at work; its key."""
    built = estate(tx)
    built.submit(tx, "r-0")
    service.plan_next(tx, at=AT)
    lease = claimed(tx)
    plan = told(tx, lease, tmp_path)
    assert plan is not None
    return built, lease, plan.key


def stored(tx: Session, lease: Lease) -> bytes | None:
    tx.flush()
    tx.expire_all()
    return Runs(tx).get(lease.row_id).checkpoint_key


def test_every_run_has_a_key_of_its_own_sealed_in_its_row(
    tx: Session, begun: tuple[Estate, Lease, str], tmp_path: Path
) -> None:
    _, lease, key = begun
    assert len(bytes.fromhex(key)) == 32
    sealed = stored(tx, lease)
    assert sealed is not None
    assert bytes.fromhex(key) not in sealed
    assert KEYRING.open("checkpoint", sealed) == bytes.fromhex(key)
    assert key not in repr(read_job(tmp_path / "job.json"))
    other = estate(tx)
    other.submit(tx, "r-0")
    service.plan_next(tx, at=AT)
    plan = told(tx, second := claimed(tx), tmp_path)
    assert plan is not None
    assert plan.key != key
    assert plan.uri == f"s3://b/checkpoints/{second.row_id}/"


def test_the_next_attempt_has_the_same_key(tx: Session, begun: tuple[Estate, Lease, str], tmp_path: Path) -> None:
    _, lease, key = begun
    crashed = Outcome(failure=Failure("killed", "Out of memory.", retryable=True))
    assert finishing.finish(tx, lease=lease, outcome=crashed, publish_uri="", max_attempts=3, at=AT) == "queued"
    assert told(tx, claimed(tx, lease.row_id), tmp_path) == Checkpointing(
        f"s3://b/checkpoints/{lease.row_id}/", key, 60.0, 0
    )


def test_each_attempt_that_was_killed_halves_the_records_at_a_time(
    tx: Session, begun: tuple[Estate, Lease, str], tmp_path: Path
) -> None:
    _, lease, _ = begun
    sizes = [read_job(tmp_path / "job.json").parameters.micro_batch_size]
    for code in (KILLED, "child_crashed", KILLED):
        ended = Outcome(failure=Failure(code, "It ended.", retryable=True))
        finishing.finish(tx, lease=lease, outcome=ended, publish_uri="", max_attempts=9, at=AT)
        lease = claimed(tx, lease.row_id)
        told(tx, lease, tmp_path)
        sizes.append(read_job(tmp_path / "job.json").parameters.micro_batch_size)
    assert sizes == [64, 32, 32, 16]


def test_a_key_sealed_with_another_secret_is_replaced(
    tx: Session, begun: tuple[Estate, Lease, str], tmp_path: Path
) -> None:
    _, lease, key = begun
    plan = told(tx, lease, tmp_path, CheckpointRule(Keyring(b"another secret of 32 bytes or more!!"), 60.0, 0))
    assert plan is not None
    assert plan.key != key


GOOD = Outcome(stop_reason="target_reached", verdict="passed", staged=staged("file:///nowhere/digits/v2/"))
ENDS = {
    "succeeded": GOOD,
    "needs_review": Outcome(stop_reason="target_reached", verdict="failed", staged=GOOD.staged),
    "failed": Outcome(failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False)),
    "cancelled": Outcome(stop_reason="cancelled"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_key_goes_with_the_end_of_the_run(tx: Session, begun: tuple[Estate, Lease, str], end: str) -> None:
    _, lease, _ = begun
    uri = "file:///nowhere/digits/v2/"
    assert finishing.finish(tx, lease=lease, outcome=ENDS[end], publish_uri=uri, max_attempts=3, at=AT) == end
    assert stored(tx, lease) is None


def test_an_assessment_and_a_service_without_checkpoints_have_no_key(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    command = SubmitAssessment(model="digits", record_ids=("r-1",))
    assessments.submit(
        tx, workspace_id=built.workspace_id, actor="k", command=command, keyring=KEYRING, max_ids=9, at=AT
    )
    assert told(tx, lease := claimed(tx), tmp_path) is None
    assert stored(tx, lease) is None
    built.submit(tx, "r-0")
    service.plan_next(tx, at=AT)
    for rule in (None, CheckpointRule(KEYRING, 0.0, 0)):
        tx.execute(update(Run).values(status="queued"))
        assert told(tx, lease := claimed(tx), tmp_path, rule) is None
        assert stored(tx, lease) is None


def rows(*steps: int) -> list[dict[str, int]]:
    return [{"step": step} for step in steps]


def report(tx: Session, lease: Lease, *steps: int, resumed_step: int | None = None) -> None:
    latest = Progress("unlearning", step=steps[-1], max_steps=9)
    service.record(tx, lease=lease, latest=latest, steps=rows(*steps), ttl_s=60, at=AT, resumed_step=resumed_step)


def test_a_resumed_attempt_has_the_whole_ledger_and_followers_see_no_step_twice(
    tx: Session, begun: tuple[Estate, Lease, str]
) -> None:
    built, lease, _ = begun
    report(tx, lease, 1, 2, 3, 4)
    service.release(tx, lease=lease, why={"code": "worker_stopped"}, at=AT)
    again = claimed(tx, lease.row_id)
    report(tx, again, 1, 2, 3, 4, 5, resumed_step=3)
    ledger = service.steps(tx, workspace_id=built.workspace_id, run_id=lease.row_id, after=-1)
    assert [step.step for step in ledger] == [1, 2, 3, 4, 5]

    def news(event: int, attempt: int, step: int) -> service.News:
        return service.news(
            tx, workspace_id=built.workspace_id, run_id=lease.row_id, event=event, attempt=attempt, step=step
        )

    assert [step.step for step in news(0, 1, 4).steps] == [4, 5]  # the fourth step was lost and taken again
    assert [step.step for step in news(0, 1, 2).steps] == [3, 4, 5]
    assert [step.step for step in news(0, 2, 4).steps] == [5]
    told_of = [(event.type, event.detail) for event in news(0, 1, 4).events]
    assert ("resumed", {"attempt": 2, "step": 3}) in told_of


def test_an_attempt_that_began_anew_is_followed_from_its_first_step(
    tx: Session, begun: tuple[Estate, Lease, str]
) -> None:
    built, lease, _ = begun
    report(tx, lease, 1, 2)
    service.release(tx, lease=lease, why={"code": "worker_stopped"}, at=AT)
    report(tx, claimed(tx, lease.row_id), 1)
    seen = service.news(tx, workspace_id=built.workspace_id, run_id=lease.row_id, event=0, attempt=1, step=2)
    assert [(step.attempt, step.step) for step in seen.steps] == [(2, 1)]
