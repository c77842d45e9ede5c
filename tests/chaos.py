"""``python -m tests.chaos --minutes 5 --seed 1``: random faults under a service at work, then what must hold.

Callers ask for deletions on several models all the while. What breaks, when, and for how long follows from the seed
alone. After the last fault everything is started again and comes to rest; then the counts and every violation are
printed as JSON. The exit code is 1 when there is one.
"""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, select

from core.deletions.tables import DeletionRequest
from core.platform.database import transaction
from core.registry.tables import ModelVersion
from core.runs.lifecycle import LEASED
from core.runs.tables import Run, RunEvent
from core.webhooks.tables import WebhookAttempt, WebhookMessage
from tests.builders.rig import LEASE_TTL_S, WORKERS, Rig
from tests.builders.servers import S3Server, fresh_bucket

MODELS = ("faces", "voices", "hands")
WRITERS = 60
_TABLES = ("model_versions", "outbox", "run_events", "deletion_requests")
_STORE = ("refuse", "unavailable", "full", "slow", "cut")
_REST_S = 600.0
ROLES = ("api", "loops", "worker", "child")
KINDS = {
    **{f"kill {role}": 3 for role in ROLES},
    **{f"terminate {role}": 1 for role in ROLES[:3]},
    "pause worker": 2,
    "restart postgres": 1,
    "restart redis": 1,
    "flush redis": 1,
    "freeze redis": 1,
    **{f"store {kind}": 1 for kind in _STORE},
    "full disk": 1,
    "lock a table": 2,
}
"""Every kind of fault, with its share."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens ``at_s`` seconds after the beginning, for how long, and a number to choose a victim by."""

    at_s: float
    kind: str
    lasting_s: float
    choice: int


def faults(seed: int, lasting_s: float) -> Iterator[Fault]:
    """The faults of a seed: one every four seconds on average."""
    rng = random.Random(seed)
    kinds, shares = list(KINDS), list(KINDS.values())
    at_s = 0.0
    while (at_s := at_s + rng.uniform(1, 7)) < lasting_s:
        (kind,) = rng.choices(kinds, shares)
        lasting = rng.uniform(LEASE_TTL_S, 2 * LEASE_TTL_S) if kind == "pause worker" else rng.uniform(0, 3)
        yield Fault(at_s, kind, lasting, rng.randrange(1000))


@dataclass
class Callers:
    """Somebody asks for a deletion every second or so, and asks again until told that it is accepted."""

    rig: Rig
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    broken_calls: int = 0

    def ask_on(self) -> None:
        """Until ``stop`` is set or everybody has been forgotten."""
        rng = random.Random(self.seed)
        wanted = [(model, writer) for model in MODELS for writer in range(WRITERS)]
        rng.shuffle(wanted)
        for model, writer in wanted:
            if self.stop.wait(rng.uniform(0.3, 2.0)):
                return
            body = {"model": model, "subject_ids": [f"writer-{writer:02d}"]}
            self._ask(body, {"Idempotency-Key": f"{self.seed}-{model}-{writer}-0123456789"})

    def _ask(self, body: Mapping[str, Any], key: Mapping[str, str]) -> None:
        while True:
            try:
                answer = self.rig.customer.http.post("/v1/deletion-requests", json=body, headers=dict(key))
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.rig.accept(answer.json())
                return
            if answer is not None and answer.status_code not in (409, 503):  # in hand still; a part is away
                raise AssertionError(f"{answer.status_code} {answer.text}")
            self.broken_calls += 1
            time.sleep(0.2)


@dataclass
class Breaker:
    """Carries faults out."""

    rig: Rig
    done: Counter[str] = field(default_factory=Counter)

    def commit(self, fault: Fault) -> None:
        """Let it happen, last, and be over. One that finds no victim is not counted."""
        verb, _, object_ = fault.kind.partition(" ")
        ways: dict[str, Callable[[], AbstractContextManager[object] | None]] = {
            "kill": lambda: self._killed(object_, fault.choice),
            "terminate": lambda: self._terminated(self._name(object_, fault.choice)),
            "pause": lambda: self.rig.paused(WORKERS[fault.choice % len(WORKERS)]),
            "restart": lambda: getattr(self.rig, object_).down(),
            "flush": lambda: self._flushed(),
            "freeze": lambda: self.rig.redis.frozen(),
            "store": lambda: self.rig.proxy.trouble(object_),  # type: ignore[arg-type]
            "full": lambda: self.rig.held("disk-full"),
            "lock": lambda: self.rig.locked(_TABLES[fault.choice % len(_TABLES)]),
        }
        spell = ways[verb]()
        if spell is None:
            return
        with spell:
            time.sleep(fault.lasting_s)
        self.done[fault.kind] += 1
        self.rig.start()

    def _name(self, role: str, choice: int) -> str:
        return WORKERS[choice % len(WORKERS)] if role == "worker" else role

    def _killed(self, role: str, choice: int) -> AbstractContextManager[object] | None:
        if role != "child":
            self.rig.kill(self._name(role, choice))
            return nullcontext()
        with transaction(self.rig.engine) as tx:
            held = tx.scalars(select(Run.id).where(Run.status.in_(LEASED)).order_by(Run.id)).all()
        child = self.rig.child_of(held[choice % len(held)]) if held else None
        if child is None:
            return None
        try:
            child.kill()
        except psutil.NoSuchProcess:
            return None
        return nullcontext()

    def _terminated(self, name: str) -> AbstractContextManager[object]:
        self.rig.stop(name)
        return nullcontext()

    def _flushed(self) -> AbstractContextManager[object]:
        self.rig.redis.flush()
        return nullcontext()


def counts(rig: Rig) -> dict[str, Any]:
    """How much happened."""
    by_status = {"requests": DeletionRequest.status, "runs": Run.status}
    with transaction(rig.engine) as tx:
        found: dict[str, Any] = {
            name: dict(tx.execute(select(column, func.count()).group_by(column)).all())
            for name, column in by_status.items()
        }
        code = RunEvent.detail["code"].as_string()
        back = select(code, func.count()).where(RunEvent.type == "requeued").group_by(code)
        found["requeued"] = dict(tx.execute(back).all())
        found["attempts"] = tx.scalar(select(func.sum(Run.attempt)))
        found["versions"] = tx.scalar(select(func.count()).select_from(ModelVersion))
        found["webhook_messages"] = tx.scalar(select(func.count()).select_from(WebhookMessage))
        found["webhook_attempts"] = tx.scalar(select(func.count()).select_from(WebhookAttempt))
    found["webhooks_received"] = len(rig.receiver.received)
    return found


def storm(rig: Rig, seed: int, lasting_s: float) -> tuple[Callers, Breaker]:
    """Callers and faults for that long."""
    callers, breaker = Callers(rig, seed), Breaker(rig)
    asking = threading.Thread(target=callers.ask_on)
    asking.start()
    began = time.monotonic()
    for fault in faults(seed, lasting_s):
        time.sleep(max(0.0, began + fault.at_s - time.monotonic()))
        sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {fault.kind} ({fault.lasting_s:.1f} s)\n")
        breaker.commit(fault)
    rig.start()
    callers.stop.set()
    asking.join()
    return callers, breaker


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="unlearn-chaos-"))
    with S3Server() as store, Rig(folder, fresh_bucket(store.url)) as rig:
        for number, model in enumerate(MODELS):
            rig.register(model, number)
        callers, breaker = storm(rig, told.seed, told.minutes * 60)
        rig.wait_api()
        broken = rig.check(timeout_s=_REST_S)
        found = {
            "seed": told.seed,
            "minutes": told.minutes,
            "requests_accepted": len(rig.accepted),
            "calls_broken_off": callers.broken_calls,
            "faults": dict(sorted(breaker.done.items())),
            **counts(rig),
            "violations": broken,
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    if not broken:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
