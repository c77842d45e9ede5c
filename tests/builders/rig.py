"""A whole service on servers of its own, and hands to break any part of it at a chosen moment.

Runs compute nothing (``quick_child``); all else is real. Moments are reached by looking at the database, at the
requests to the object store, and at who waits for a lock, never by waiting for a time.
"""

import hashlib
import os
import signal
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from sqlalchemy import Engine, exists, func, select, text

from core.certificates.tables import Certificate
from core.deletions.lifecycle import FINAL, Status
from core.deletions.tables import DeletionRequest, DeletionTarget
from core.platform import embedded
from core.platform.database import open_engine, transaction
from core.platform.objects import ObjectStore, open_store
from core.platform.outbox import OutboxRow
from core.platform.settings import Settings, StoreSettings
from core.registry.tables import Model
from core.runs.lifecycle import ACTIVE
from core.runs.repository import Runs
from core.runs.tables import Run, RunEvent
from core.webhooks.tables import WebhookDelivery
from tests.builders.invariants import Expected, violations
from tests.builders.quick_model import quick_model
from tests.builders.servers import Postgres, Redis
from tests.builders.service import COMMANDS, Customer, Receiver, Service
from tests.builders.store_proxy import StoreProxy
from tests.builders.waiting import wait_until

QUICK_WORKER = ["-m", "tests.builders.quick_worker"]
WORKERS = ("worker", "worker-2")
PROCESSES = ("api", "loops", *WORKERS)
LEASE_TTL_S = 3
_PATIENCE_S = 120


@dataclass
class Rig:
    """Servers, proxy, processes, receiver and one customer. Use as a context manager."""

    folder: Path
    bucket: StoreSettings
    """On a store that the proxy is put before."""
    workers: list[str] = field(default_factory=lambda: QUICK_WORKER)
    accepted: list[str] = field(default_factory=list)
    originals: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.postgres = stack.enter_context(Postgres())
            (self.folder / "redis").mkdir()
            self.redis = stack.enter_context(Redis(self.folder / "redis"))
            self.proxy = stack.enter_context(StoreProxy(str(self.bucket.endpoint_url)))
            self.receiver = stack.enter_context(Receiver())
            embedded.migrate(Settings.model_validate({"database": {"url": self.postgres.url}}))
            self.engine: Engine = open_engine(self.postgres.url, pool_size=4)
            stack.callback(self.engine.dispose)
            self.service = stack.enter_context(self._service())
            self.customer: Customer = self.service.customer("faults")
            endpoint = {"url": self.receiver.url, "events": ["*"]}
            self.customer.post("/v1/webhook-endpoints", endpoint, expect=201)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def _service(self) -> Service:
        self.lead = self.folder / "lead"
        self.lead.mkdir()
        extra = {
            "QUICK_CHILD": str(self.lead),
            "UNLEARN_WORKER__LEASE_TTL_S": str(LEASE_TTL_S),
            "UNLEARN_WORKER__HEARTBEAT_S": "0.5",
            "UNLEARN_WORKER__POLL_S": "0.5",
            "UNLEARN_WORKER__MAX_ATTEMPTS": "20",
            "UNLEARN_LOOPS__SWEEP_S": "1",
            "UNLEARN_LOOPS__ORPHAN_AGE_S": "1",
            "UNLEARN_WEBHOOKS__TIMEOUT_S": "5",
            "UNLEARN_WEBHOOKS__SCHEDULE_S": str([0, *[1] * 20]),
        }
        commands = {**COMMANDS, **dict.fromkeys(WORKERS, self.workers)}
        through = self.bucket.model_copy(update={"endpoint_url": self.proxy.url})
        return Service(self.postgres.url, self.redis.url, through, self.folder, extra=extra, commands=commands)

    # --- asking ---------------------------------------------------------------------------------------------------

    def register(self, name: str, seed: int = 0) -> str:
        """A model of its own; its id."""
        built = quick_model(self.folder / name, seed)
        self.customer.register(name, built)
        with transaction(self.engine) as tx:
            model_id = str(tx.scalar(select(Model.id).where(Model.name == name)))
        self.originals[model_id] = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built.model.iterdir()
        }
        return model_id

    def ask(self, model: str, writer: int) -> str:
        """A request to forget one person; its id."""
        body = {"model": model, "subject_ids": [f"writer-{writer:02d}"]}
        return self.accept(self.customer.post("/v1/deletion-requests", body, expect=202))

    def accept(self, request: Mapping[str, Any]) -> str:
        """Note that the request has been accepted; its id."""
        self.accepted.append(str(request["id"]))
        return self.accepted[-1]

    # --- looking --------------------------------------------------------------------------------------------------

    def run_of(self, request_id: str) -> str:
        """The id of the run that has taken the request, as soon as there is one."""
        wanted = select(DeletionTarget.run_id).where(DeletionTarget.request_id == request_id)
        return str(wait_until(lambda: self._scalar(wanted), timeout_s=_PATIENCE_S, what="a run"))

    def run(self, run_id: str) -> Run:
        """The run as it is now."""
        with transaction(self.engine) as tx:
            return Runs(tx).get(run_id)

    def events(self, run_id: str) -> list[RunEvent]:
        """Its timeline."""
        with transaction(self.engine) as tx:
            return list(Runs(tx).events(run_id, after=0))

    def wait_phase(self, run_id: str, phase: str, attempt: int) -> None:
        """Until that attempt is in that phase, and its child at work."""

        def there() -> bool:
            run = self.run(run_id)
            return (run.status, run.attempt) == (phase, attempt) and self.child_of(run_id) is not None

        wait_until(there, timeout_s=_PATIENCE_S, what=f"attempt {attempt} in the phase {phase}")

    def wait_attempt(self, run_id: str, attempt: int) -> None:
        """Until the run has been claimed that often."""
        wait_until(
            lambda: (run := self.run(run_id)).attempt >= attempt and run.lease_owner,
            timeout_s=_PATIENCE_S, what=f"attempt {attempt}",
        )  # fmt: skip

    def ended(self, request_id: str) -> str:
        """How the request ended, as soon as it has."""
        status = select(DeletionRequest.status).where(DeletionRequest.id == request_id)
        ends = {*FINAL, Status.NEEDS_REVIEW}
        return str(
            wait_until(
                lambda: (now := self._scalar(status)) in ends and now, timeout_s=_PATIENCE_S, what="the request's end"
            )
        )

    def worker_of(self, run_id: str) -> str:
        """The name of the process that holds the run, as soon as one does."""

        def name() -> str | None:
            pid = int((self.run(run_id).lease_owner or ":0").rpartition(":")[2])
            return next((name for name in WORKERS if self._pid(name) == pid), None)

        return str(wait_until(name, timeout_s=_PATIENCE_S, what="a worker that holds the run"))

    def child_of(self, run_id: str) -> psutil.Process | None:
        """The computing process of the run, if there is one."""
        owner = self.run(run_id).lease_owner
        if owner is None:
            return None
        try:
            return next(iter(psutil.Process(int(owner.rpartition(":")[2])).children()), None)
        except psutil.NoSuchProcess:
            return None

    def at_rest(self) -> bool:
        """Whether nothing is under way: all requests ended, everything certified, sent and delivered."""
        with transaction(self.engine) as tx:
            busy = (
                exists().where(DeletionRequest.status.not_in({*FINAL, Status.NEEDS_REVIEW})),
                exists().where(Run.status.in_(ACTIVE)),
                exists().where(OutboxRow.sent_at.is_(None)),
                exists().where(WebhookDelivery.status == "pending"),
            )
            certified = select(func.count()).select_from(Certificate).scalar_subquery()
            ended = select(func.count()).where(Run.status.in_(("succeeded", "failed"))).scalar_subquery()
            return not any(tx.scalar(select(one)) for one in busy) and bool(tx.scalar(select(certified == ended)))

    def check(self, *, timeout_s: float = _PATIENCE_S) -> list[str]:
        """What is wrong once all is at rest (or has had its time to come to rest), with the store swept."""
        try:
            wait_until(self.at_rest, timeout_s=timeout_s, what="rest")
            wait_until(lambda: not self._violations(swept=True), timeout_s=10, what="a sweep")
        except TimeoutError:
            return self._violations(swept=True)
        return []

    @property
    def store(self) -> ObjectStore:
        """The store itself, not through the proxy."""
        return open_store(Settings.model_validate({"store": self.bucket}))

    # --- breaking -------------------------------------------------------------------------------------------------

    @contextmanager
    def held(self, phase: str) -> Generator[None]:
        """Runs stay in that phase; ``disk-full`` leaves them no room."""
        (self.lead / phase).touch()
        try:
            yield
        finally:
            (self.lead / phase).unlink()

    @contextmanager
    def locked(self, table: str) -> Generator["Locked"]:
        """Nobody writes to the table; reading goes on."""
        with self.engine.connect() as connection, connection.begin():
            connection.execute(text(f"lock table {table} in share row exclusive mode"))
            yield Locked(self.engine, table)

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.service.kill(name)

    def start(self, *names: str) -> None:
        """Start those of them (of all) that do not run."""
        for name in names or PROCESSES:
            if self._pid(name) is None:
                self.service.start(name)

    def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self.service.processes.pop(name)
        process.terminate()
        return process.wait(timeout=60)

    @contextmanager
    def paused(self, name: str) -> Generator[None]:
        """SIGSTOP, and SIGCONT in the end."""
        process = self.service.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def wait_api(self) -> None:
        """Until the API answers."""

        def answers() -> bool:
            try:
                return httpx.get(f"{self.service.url}/healthz", timeout=5).is_success
            except httpx.TransportError:
                return False

        wait_until(answers, timeout_s=_PATIENCE_S, what="the API")

    def _violations(self, *, swept: bool) -> list[str]:
        expected = Expected(list(self.accepted), self.originals, list(self.receiver.received))
        with transaction(self.engine) as tx:
            return violations(tx, self.store, expected, swept=swept)

    def _pid(self, name: str) -> int | None:
        process = self.service.processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def _scalar(self, statement: Any) -> Any:
        with transaction(self.engine) as tx:
            return tx.scalar(statement)


@dataclass(frozen=True)
class Locked:
    """A table that nobody can write to."""

    engine: Engine
    table: str

    def wait_blocked(self, others: int = 0) -> None:
        """Until more connections than ``others`` wait for it."""
        wait_until(lambda: self.blocked() > others, timeout_s=_PATIENCE_S, what=f"somebody who waits for {self.table}")

    def blocked(self) -> int:
        """How many wait for it now."""
        waiting = "select count(*) from pg_locks where not granted and relation = cast(:name as regclass)"
        with self.engine.connect() as connection:
            return int(connection.execute(text(waiting), {"name": self.table}).scalar_one())


def is_alive(pid: int) -> bool:
    """Whether a process of that id is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
