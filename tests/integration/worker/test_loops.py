"""Each loop's turn by itself, and what it does while others are away."""

import socket
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from core.platform.clock import utc_now
from core.platform.database import open_engine, transaction
from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore, ObjectInfo
from core.platform.outbox import OutboxMessage, OutboxRow, put_event, put_task
from core.platform.settings import LoopSettings, Settings, WorkerSettings
from core.runs import finishing, service
from core.runs.tables import Run
from core.unlearning.job import Outcome
from core.webhooks.messages import fan_out
from tests.builders.estate import AT, Estate, estate, staged
from tests.builders.webhooks import data_of
from worker import tasks
from worker.app import make_app
from worker.loops import planner, reaper, relay, sweeper
from worker.loops.turning import keep_turning

pytestmark = pytest.mark.integration


def unsent(engine: Engine, topic: str) -> list[str]:
    with transaction(engine) as tx:
        rows = select(OutboxRow.name).where(OutboxRow.topic == topic, OutboxRow.sent_at.is_(None))
        return list(tx.scalars(rows.order_by(OutboxRow.id)))


def broker(url: str) -> Settings:
    return Settings.model_validate({"broker": {"url": url}})


def test_doorbells_go_to_the_broker_by_name(database: Engine, redis_url: str) -> None:
    app = make_app(broker(redis_url))
    app.conf.task_default_queue = f"test-{utc_now().timestamp()}"
    with transaction(database) as tx:
        put_task(tx, "runs.execute", "run_1")
        put_task(tx, "runs.execute", "run_2")
    assert relay.turn_tasks(database, relay.task_sender(app)) == 2
    assert relay.turn_tasks(database, relay.task_sender(app)) == 0
    assert unsent(database, "task") == []
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_default_queue) as queue:
        bodies = [queue.get(timeout=5).payload for _ in range(2)]
        queue.clear()
    assert [body[0] for body in bodies] == [["run_1"], ["run_2"]]
    app.close()


def test_a_broker_that_is_away_delays_doorbells_and_no_event(database: Engine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        app = make_app(broker(f"redis://127.0.0.1:{probe.getsockname()[1]}/0"))
        with transaction(database) as tx:
            built = estate(tx)
            put_task(tx, "runs.execute", "run_1")
            put_event(tx, workspace_id=built.workspace_id, type="run.started", data=data_of("run.started"), at=AT)
        with pytest.raises(Exception, match=r"(?i)connect|refused"):
            relay.turn_tasks(database, relay.task_sender(app))
        app.close()
    assert unsent(database, "task") == ["runs.execute"]
    assert relay.turn_events(database, fan_out) > 0
    assert unsent(database, "event") == []


def test_what_was_sent_before_the_broker_went_is_not_sent_again(database: Engine) -> None:
    with transaction(database) as tx:
        for number in range(3):
            put_task(tx, "runs.execute", f"run_{number}")
    sent: list[str] = []

    def send(_name: str, arguments: Sequence[str]) -> None:
        if len(sent) == 2:
            raise OSError("away")
        sent.extend(arguments)

    assert relay.turn_tasks(database, send) == 2
    assert len(unsent(database, "task")) == 1
    sent.clear()
    relay.turn_tasks(database, send)
    assert sent == ["run_2"]


def test_an_event_whose_fan_out_fails_stays_for_the_next_turn(database: Engine) -> None:
    with transaction(database) as tx:
        built = estate(tx)
        tx.execute(text("delete from outbox"))
        put_event(tx, workspace_id=built.workspace_id, type="run.started", data=data_of("run.started"), at=AT)

    def broken(tx: Session, _message: OutboxMessage) -> None:
        tx.execute(text("select 1 / 0"))

    with pytest.raises(Exception, match="division by zero"):
        relay.turn_events(database, broken)
    seen: list[str] = []
    assert relay.turn_events(database, lambda _tx, message: seen.append(message.name)) == 1
    assert seen == ["run.started"]


def test_two_relays_share_the_rows(database: Engine) -> None:
    with transaction(database) as tx:
        for number in range(4):
            put_task(tx, "runs.execute", f"run_{number}")
    sent: list[str] = []

    def send(_name: str, arguments: Sequence[str]) -> None:
        sent.extend(arguments)

    def send_while_another_looks(name: str, arguments: Sequence[str]) -> None:
        assert relay.turn_tasks(database, send) == 0  # the rows are locked by this turn
        send(name, arguments)

    assert relay.turn_tasks(database, send_while_another_looks) == 4
    assert sorted(sent) == [f"run_{number}" for number in range(4)]


def planned(engine: Engine) -> tuple[Estate, str]:
    with transaction(engine) as tx:
        built = estate(tx)
        built.submit(tx, "r-0")
    assert planner.turn(engine)
    assert not planner.turn(engine)
    with transaction(engine) as tx:
        return built, tx.scalars(select(Run.id)).one()


def test_planner_and_reaper_turn(database: Engine) -> None:
    _, run_id = planned(database)
    with transaction(database) as tx:
        lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT)
    assert lease is not None
    assert not reaper.turn(database, WorkerSettings())
    with transaction(database) as tx:
        tx.execute(update(Run).values(lease_until=text("now() - interval '1 second'")))
    assert reaper.turn(database, WorkerSettings())
    with transaction(database) as tx:
        assert service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT) is not None


def test_planners_at_once_make_one_run(database: Engine) -> None:
    with transaction(database) as tx:
        built = estate(tx)
        for number in range(5):
            built.submit(tx, f"r-{number}")
    barrier = threading.Barrier(4)
    made: list[bool] = []

    def plan() -> None:
        barrier.wait()
        made.append(planner.turn(database))

    threads = [threading.Thread(target=plan) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(made) == [False, False, False, True]
    with transaction(database) as tx:
        assert tx.execute(text("select count(*) from runs")).scalar_one() == 1
        assert tx.execute(text("select count(*) from deletion_targets where status = 'in_progress'")).scalar_one() == 5


class Aged(MemoryStore):
    """A store whose objects are two days old."""

    def list(self, prefix_uri: str):  # type: ignore[no-untyped-def]
        old = timedelta(days=2)
        return iter([ObjectInfo(i.uri, i.size_bytes, i.modified_at - old) for i in super().list(prefix_uri)])


def finish(engine: Engine, run_id: str, store: MemoryStore, *, passed: bool) -> str:
    """Claim and finish the run; the folder of its weights, which lie in the store."""
    with transaction(engine) as tx:
        lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT)
    assert lease is not None
    uri = store.uri(f"models/digits/v2/{run_id}-{lease.attempt}/")
    files = staged(uri)
    store.put_bytes(files[0].uri, b"x")
    store.put_bytes(f"{uri}manifest.json", b"{}")
    outcome = Outcome(stop_reason="target_reached", verdict="passed" if passed else "failed", staged=files)
    with transaction(engine) as tx:
        finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=3, at=AT)
    return uri


def below(store: MemoryStore, uri: str) -> int:
    return len(list(store.list(uri)))


def test_the_sweeper_keeps_what_is_referred_to_and_removes_the_rest(database: Engine) -> None:
    store = Aged()
    built, run_id = planned(database)
    with transaction(database) as tx:
        lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT)
        assert lease is not None
        service.release(tx, lease=lease, why={"code": "worker_stopped"}, at=AT)
    earlier = store.uri(f"models/digits/v2/{run_id}-1/")
    unknown = store.uri("models/digits/v2/run_00000000000000000000000000-1/")
    for uri in (earlier, unknown, store.uri("models/digits/registered/")):
        store.put_bytes(f"{uri}model.safetensors", b"x")
    reviewed = finish(database, run_id, store, passed=False)
    sweeper.turn(database, store, LoopSettings())
    assert [below(store, uri) for uri in (earlier, unknown, reviewed)] == [0, 0, 2]
    assert below(store, store.uri("models/digits/registered/")) == 1
    with transaction(database) as tx:
        request_id = tx.execute(text("select id from deletion_requests")).scalar_one()
        finishing.decide(
            tx,
            workspace_id=built.workspace_id,
            request_id=request_id,
            approve=True,
            comment="",
            actor="k",
            at=AT,
        )
    sweeper.turn(database, store, LoopSettings())
    assert below(store, reviewed) == 2


def test_the_sweeper_leaves_young_objects_and_attempts_at_work_alone(database: Engine) -> None:
    _, run_id = planned(database)
    store, aged = MemoryStore(), Aged()
    with transaction(database) as tx:
        service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=AT)
    for one in (store, aged):
        one.put_bytes(one.uri(f"models/digits/v2/{run_id}-1/model.safetensors"), b"x")
        one.put_bytes(one.uri("models/digits/v2/run_00000000000000000000000000-1/model.safetensors"), b"x")
        sweeper.turn(database, one, LoopSettings())
    assert below(store, store.uri("models/")) == 2
    assert below(aged, aged.uri("models/")) == 1


def test_the_sweeper_removes_the_checkpoints_of_runs_that_have_ended(database: Engine) -> None:
    _, run_id = planned(database)
    store = MemoryStore()
    mine, unknown = (store.uri(f"checkpoints/{one}/{'a' * 32}/1-2/state.sealed") for one in (run_id, f"run_{'0' * 26}"))
    other = store.uri("models/digits/registered/model.safetensors")
    for uri in (mine, unknown, other):
        store.put_bytes(uri, b"x")
    sweeper.turn(database, store, LoopSettings())
    assert [store.size(uri) for uri in (mine, unknown, other)] == [1, None, 1]
    finish(database, run_id, store, passed=False)
    sweeper.turn(database, store, LoopSettings())
    assert [store.size(uri) for uri in (mine, other)] == [None, 1]


def test_the_sweeper_forgets_sent_messages(database: Engine) -> None:
    with transaction(database) as tx:
        tx.add(OutboxRow(topic="task", name="old", payload={}, sent_at=utc_now() - timedelta(days=8)))
        tx.add(OutboxRow(topic="task", name="young", payload={}, sent_at=utc_now()))
        tx.add(OutboxRow(topic="task", name="unsent", payload={}, created_at=utc_now() - timedelta(days=8)))
    sweeper.turn(database, MemoryStore(), LoopSettings())
    with transaction(database) as tx:
        assert set(tx.scalars(select(OutboxRow.name))) == {"young", "unsent"}


class Refusing(MemoryStore):
    """A store that lists nothing."""

    def list(self, prefix_uri: str):  # type: ignore[no-untyped-def]
        raise DependencyDown(f"{prefix_uri} cannot be listed")


def test_a_store_that_is_away_does_not_keep_rows_from_being_swept(database: Engine) -> None:
    with transaction(database) as tx:
        tx.add(OutboxRow(topic="task", name="old", payload={}, sent_at=utc_now() - timedelta(days=8)))
    away = [DependencyDown] * 3  # neither checkpoints nor weights nor data sets' files could be listed
    with pytest.RaisesGroup(*away):
        sweeper.turn(database, Refusing(), LoopSettings())
    with transaction(database) as tx:
        assert tx.scalars(select(OutboxRow.name)).all() == []


def test_a_loop_survives_outages() -> None:
    stop, turns = threading.Event(), 0
    away = open_engine("postgresql://nobody@127.0.0.1:1/none")

    def turn() -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            return planner.turn(away)
        if turns == 2:
            raise RuntimeError("a bug")
        if turns == 4:
            stop.set()
        return True

    keep_turning("test", turn, pause_s=0.001, stop=stop)
    away.dispose()
    assert turns == 4


def test_the_file_broker_rings_a_worker(tmp_path: Path) -> None:
    settings = broker(f"filesystem://{tmp_path}/broker")
    app, rung = make_app(settings), []
    tasks.register(app, lambda run_id: bool(rung.append(run_id)))
    relay.task_sender(app)("runs.execute", ["run_1"])
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_default_queue) as queue:
        message = queue.get(timeout=5)
        message.ack()
        app.tasks[message.headers["task"]](*message.payload[0])
    app.close()
    assert rung == ["run_1"]
    assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700
