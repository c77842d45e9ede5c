"""A run under supervision, with a scripted child in the place of the one that needs a device."""

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text, update

from core.assessments import service as assessments
from core.assessments.commands import SubmitAssessment
from core.platform.clock import Clock, utc_now
from core.platform.database import database_now, transaction
from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore
from core.platform.settings import Settings, WorkerSettings
from core.registry.tables import ModelVersion
from core.runs import service
from core.runs.planning import plan_next
from core.runs.tables import Run, RunEvent, RunStep
from tests.builders.estate import AT, KEYRING, Estate, estate
from tests.builders.waiting import wait_until
from worker.executor import Executor
from worker.loops import reaper
from worker.polling import keep_looking
from worker.supervisor import Supervisor

pytestmark = pytest.mark.integration
CHILD = Path(__file__).resolve().parents[2] / "builders" / "scripted_child.py"


@dataclass
class Stage:
    """A planned run and what is needed to carry it out."""

    engine: Engine
    built: Estate
    folder: Path
    run_id: str
    stopping: threading.Event

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def work_dir(self) -> Path:
        return self.folder / "work"

    def executor(
        self, scenario: str, *, store: MemoryStore | None = None, clock: Clock = utc_now, **worker: object
    ) -> Executor:
        limits = {"lease_ttl_s": 30, "heartbeat_s": 0.2, "poll_s": 0.1, "cancel_grace_s": 20, **worker}
        settings = Settings.model_validate({"worker": {"work_dir": self.work_dir, **limits}})
        store = store or MemoryStore()
        command = (sys.executable, str(CHILD), scenario, str(self.gate))
        supervisor = Supervisor(self.engine, store, settings, stopping=self.stopping, command=command, clock=clock)
        return Executor(self.engine, store, settings, supervisor=supervisor, stopping=self.stopping, clock=clock)

    def start(self, executor: Executor) -> threading.Thread:
        thread = threading.Thread(target=executor.execute, args=(self.run_id,))
        thread.start()
        wait_until(lambda: (self.folder / "child.pid").exists() and self.child_pid(), what="the child")
        return thread

    def child_pid(self) -> int:
        return int((self.folder / "child.pid").read_text() or 0)

    def run(self) -> Run:
        with transaction(self.engine) as tx:
            found = tx.get(Run, self.run_id)
            assert found is not None
            return found

    def request_status(self) -> str:
        with transaction(self.engine) as tx:
            return tx.execute(text("select status from deletion_requests")).scalar_one()

    def versions(self) -> int:
        with transaction(self.engine) as tx:
            return len(tx.scalars(select(ModelVersion)).all())

    def left_clean(self) -> bool:
        started = (self.folder / "child.pid").exists()  # a busy machine may end a child before its first line
        return not list(self.work_dir.glob("*")) and not (started and alive(self.child_pid()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stage(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    with transaction(database) as tx:
        built = estate(tx)
        built.submit(tx, "r-0")
        planned = plan_next(tx, at=AT)
        assert planned is not None
        assert planned.run_id is not None
    staged = Stage(database, built, tmp_path, planned.run_id, threading.Event())
    yield staged
    staged.gate.touch()


def test_a_good_run_is_published_and_leaves_nothing_behind(stage: Stage) -> None:
    assert stage.executor("success").execute(None)
    run = stage.run()
    assert (run.status, run.published_version, run.stop_reason) == ("succeeded", 2, "target_reached")
    assert run.hardness == {"verdict": "hard"}
    assert stage.request_status() == "completed"
    with transaction(stage.engine) as tx:
        assert tx.scalars(select(RunStep.step).order_by(RunStep.step)).all() == [1, 2, 3]
    assert stage.left_clean()
    assert not stage.executor("success").execute(None)


def test_an_assessment_is_supervised_like_any_run_and_publishes_nothing(stage: Stage) -> None:
    with transaction(stage.engine) as tx:
        command = SubmitAssessment(model="digits", record_ids=("r-1",))
        asked = assessments.submit(
            tx, workspace_id=stage.built.workspace_id, actor="k", command=command, keyring=KEYRING, max_ids=9, at=AT
        )
    stage.run_id, unlearning = asked.run.id, stage.run_id
    for scenario in ("killed", "assess"):
        assert stage.executor(scenario).execute(stage.run_id)
    run = stage.run()
    assert (run.status, run.attempt, run.hardness) == ("succeeded", 2, {"verdict": "hard"})
    assert stage.versions() == 1
    assert stage.left_clean()
    stage.run_id = unlearning
    assert (stage.run().status, stage.request_status()) == ("queued", "in_progress")


@pytest.mark.parametrize(
    ("scenario", "code", "words"),
    [
        ("crash", "child_crashed", "code 3"),
        ("killed", "killed", "memory"),
        ("wordless", "no_outcome", "readable"),
    ],
)
def test_a_broken_child_is_tried_again_and_then_explained(stage: Stage, scenario: str, code: str, words: str) -> None:
    executor = stage.executor(scenario, max_attempts=2)
    assert executor.execute(None)
    assert stage.run().status == "queued"
    assert executor.execute(None)
    run = stage.run()
    assert (run.status, run.attempt) == ("failed", 2)
    assert run.error is not None
    assert run.error["code"] == code
    assert words in run.error["message"]
    assert stage.request_status() == "failed"
    assert stage.versions() == 1
    assert stage.left_clean()


def test_a_job_that_cannot_succeed_is_not_tried_again(stage: Stage) -> None:
    assert stage.executor("refused").execute(None)
    run = stage.run()
    assert (run.status, run.attempt) == ("failed", 1)
    assert run.error == {"code": "bad_record", "message": "Row 3 cannot be used.", "attempt": 1}


def test_cancelling_stops_the_child_and_publishes_nothing(stage: Stage) -> None:
    thread = stage.start(stage.executor("chatty"))
    wait_until(lambda: stage.run().status == "unlearning", what="a step")
    with transaction(stage.engine) as tx:
        service.cancel(tx, workspace_id=stage.built.workspace_id, run_id=stage.run_id, actor="k", at=AT)
    thread.join(timeout=60)
    assert (stage.run().status, stage.versions()) == ("cancelled", 1)
    assert stage.request_status() == "needs_review"
    assert stage.left_clean()


def test_a_child_that_does_not_stop_is_killed(stage: Stage) -> None:
    thread = stage.start(stage.executor("stubborn", cancel_grace_s=0.2))
    with transaction(stage.engine) as tx:
        service.cancel(tx, workspace_id=stage.built.workspace_id, run_id=stage.run_id, actor="k", at=AT)
    thread.join(timeout=60)
    assert stage.run().status == "cancelled"
    assert stage.left_clean()


def test_the_deadline_ends_a_run_for_good(stage: Stage) -> None:
    stage.executor("chatty", run_deadline_s=0.3).execute(None)
    run = stage.run()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["code"] == "deadline_exceeded"
    assert "0.3 s" in run.error["message"]
    assert stage.left_clean()


def lease_until(stage: Stage) -> datetime:
    until = stage.run().lease_until
    assert until is not None
    return until


def test_the_lease_of_a_silent_child_is_kept_alive(stage: Stage) -> None:
    thread = stage.start(stage.executor("gated"))
    first = lease_until(stage)
    second = wait_until(lambda: (now := lease_until(stage)) > first and now, what="a heartbeat")
    wait_until(lambda: lease_until(stage) > second, what="another heartbeat")
    stage.gate.touch()
    thread.join(timeout=60)
    assert stage.run().status == "succeeded"


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_is_wrong_neither_shortens_nor_prolongs_a_lease(stage: Stage, days: int) -> None:
    """Of the worker, and of the reaper beside it."""

    def wrong() -> datetime:
        return utc_now() + timedelta(days=days)

    thread = stage.start(stage.executor("gated", clock=wrong, lease_ttl_s=30))
    first = lease_until(stage)
    with transaction(stage.engine) as tx:
        left_s = (first - database_now(tx)).total_seconds()
    assert 0 < left_s <= 30
    assert not reaper.turn(stage.engine, WorkerSettings(), wrong)
    wait_until(lambda: lease_until(stage) > first, what="a heartbeat")
    stage.gate.touch()
    thread.join(timeout=60)
    assert (stage.run().status, stage.run().attempt) == ("succeeded", 1)


def test_a_machine_without_room_hands_the_run_back_and_rests(stage: Stage) -> None:
    executor = stage.executor("full", max_attempts=1)
    assert executor.execute(None)
    assert (stage.run().status, stage.run().lease_token) == ("queued", None)
    with transaction(stage.engine) as tx:
        (event,) = tx.scalars(select(RunEvent).where(RunEvent.type == "requeued"))
    assert (event.detail["code"], event.detail["attempt"]) == ("disk_full", 1)
    assert not executor.execute(None)
    assert stage.left_clean()
    another = stage.executor("success", max_attempts=1)
    assert another.execute(None)
    assert (stage.run().status, stage.run().attempt) == ("succeeded", 2)


def test_a_worker_without_room_for_the_job_itself_hands_it_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        Path("/dev/full").write_bytes(b"x")

    monkeypatch.setattr("worker.supervisor.prepare", full)
    assert stage.executor("success", max_attempts=1).execute(None)
    assert stage.run().status == "queued"


def test_a_lost_lease_kills_the_child_and_writes_nothing(stage: Stage) -> None:
    thread = stage.start(stage.executor("gated"))
    with transaction(stage.engine) as tx:
        tx.execute(update(Run).values(lease_token="somebody else's", attempt=2))
    thread.join(timeout=60)
    run = stage.run()
    assert (run.status, run.lease_token, run.attempt) == ("preparing", "somebody else's", 2)
    assert stage.left_clean()


def test_a_worker_that_shuts_down_hands_its_run_back(stage: Stage) -> None:
    executor = stage.executor("gated")
    thread = stage.start(executor)
    stage.stopping.set()
    thread.join(timeout=60)
    assert (stage.run().status, stage.run().lease_token) == ("queued", None)
    assert (stage.folder / "told").read_text() == "put away"
    assert stage.left_clean()
    assert not executor.execute(None)


def test_a_worker_holds_one_run_at_a_time(stage: Stage) -> None:
    executor = stage.executor("gated")
    thread = stage.start(executor)
    assert not executor.execute(stage.run_id)
    stage.gate.touch()
    thread.join(timeout=60)
    assert stage.run().attempt == 1


class Away(MemoryStore):
    """A store that does not answer until it is told to."""

    away = True

    def check(self) -> None:
        if self.away:
            raise DependencyDown("The object store does not answer.")


def test_runs_are_not_claimed_while_the_store_is_away(stage: Stage) -> None:
    store = Away()
    executor = stage.executor("success", store=store)
    assert not executor.execute(None)
    assert (stage.run().status, stage.run().attempt) == ("queued", 0)
    store.away = False
    assert executor.execute(None)
    assert stage.run().status == "succeeded"


def test_a_lost_doorbell_only_delays(stage: Stage) -> None:
    stop = threading.Event()
    executor = stage.executor("success")
    looking = threading.Thread(target=keep_looking, args=(executor.execute,), kwargs={"poll_s": 0.05, "stop": stop})
    looking.start()
    wait_until(lambda: stage.run().status == "succeeded", what="the run")
    stop.set()
    looking.join(timeout=10)
    assert not looking.is_alive()


def test_two_workers_share_no_run(stage: Stage) -> None:
    barrier = threading.Barrier(2)
    claims: list[object] = []

    def claim() -> None:
        barrier.wait()
        with transaction(stage.engine) as tx:
            claims.append(service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT))

    threads = [threading.Thread(target=claim) for _ in range(2)]
    run_all(threads)
    assert sorted(claim is None for claim in claims) == [False, True]


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)


def test_a_bug_of_ours_does_not_leave_the_run_hanging(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = stage.executor("success", max_attempts=1)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("worker.supervisor.prepare", broken)
    executor.execute(None)
    run = stage.run()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["code"] == "internal_error"
