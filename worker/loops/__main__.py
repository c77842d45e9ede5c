"""``python -m worker.loops``: every background loop of the service, each in a thread of its own.

Any number of these processes may run side by side; rows are locked, so that no work is done twice.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from core.opendsr.profile import Profile
from core.opendsr.signing import open_signer
from core.platform import embedded, logging
from core.platform.database import open_engine
from core.platform.objects import open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.platform.workfolder import FILES, remove_leftovers
from core.webhooks.messages import fan_out
from worker.app import make_app
from worker.loops import (
    certifier,
    deadlines,
    eraser,
    indexer,
    opendsr,
    planner,
    reaper,
    relay,
    replayer,
    sandbox,
    sender_pool,
    sweeper,
    webhook_sender,
)
from worker.loops.turning import keep_turning
from worker.metrics import LoopMetrics, exposed

log = structlog.get_logger()

_CONNECTIONS = 16
"""One for each loop and some for the threads that send webhooks and callbacks."""

_GRACE_S = 20.0
"""As long as one call to a webhook receiver may take, and a little more."""

_CALM = 4
"""How much longer those loops pause for which nobody waits to within a second: idle turns cost the database too."""

_IDLE_LIMIT_S = 300.0
"""Longer than a turn waits for broker or store within a transaction."""


def main() -> None:
    """Turn every loop until SIGTERM or SIGINT, then end each after the turn it is in, but wait no longer than a while.

    What a loop is broken off in is rolled back, and done by the next process.
    """
    settings = embedded.resolve(Settings())
    logging.configure(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    remove_leftovers(settings.worker.work_dir, FILES)
    registry = CollectorRegistry()
    loops = _loops(settings, stop, LoopMetrics(registry))
    threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
    with exposed(registry, host=settings.metrics_host, port=settings.loops.metrics_port):
        for thread in threads:
            thread.start()
        log.info("loops_started", loops=[thread.name for thread in threads])
        stop.wait()
        late = not_ended(threads, limit_s=_GRACE_S)
    log.info("loops_stopped", broken_off=late)
    if late:
        os._exit(0)  # threads of pools would be waited for


def not_ended(threads: Sequence[threading.Thread], *, limit_s: float) -> list[str]:
    """Wait for the threads, ``limit_s`` seconds for all together; the names of those that are still at work then."""
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _loops(settings: Settings, stop: threading.Event, metrics: LoopMetrics) -> dict[str, Callable[[], None]]:
    assert settings.database.url is not None  # noqa: S101
    assert settings.secret is not None  # noqa: S101
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=_CONNECTIONS, idle_limit_s=_IDLE_LIMIT_S)
    store = open_store(settings)
    keyring = Keyring.of(settings)
    poll_s, sweep_s = settings.loops.poll_s, settings.loops.sweep_s
    calm_s = _CALM * poll_s
    turns: dict[str, tuple[Callable[[], object], float]] = {
        "relay-tasks": (partial(relay.turn_tasks, engine, relay.task_sender(make_app(settings))), poll_s),
        "relay-events": (partial(relay.turn_events, engine, fan_out), poll_s),
        "planner": (partial(planner.turn, engine), poll_s),
        "deadlines": (partial(deadlines.turn, engine), calm_s),
        "reaper": (partial(reaper.turn, engine, settings.worker), calm_s),
        "certifier": (partial(certifier.turn, engine, keyring, settings.public_url), poll_s),
        "sandbox": (partial(sandbox.turn, engine, store.uri), calm_s),
        "indexer": (partial(indexer.turn, engine, store, keyring, settings), calm_s),
        "eraser": (partial(eraser.turn, engine, store, settings.worker.work_dir), settings.loops.erase_s),
        "replayer": (partial(replayer.turn, engine), calm_s),
        "sweeper": (partial(sweeper.turn, engine, store, settings.loops), sweep_s),
    }
    sender = webhook_sender.WebhookSender(engine, settings, keyring)
    loops: dict[str, Callable[[], None]] = {
        name: partial(keep_turning, name, turn, pause_s=pause_s, stop=stop, turned=metrics.turned)
        for name, (turn, pause_s) in turns.items()
    }
    pools: dict[str, sender_pool.SenderPool[Any]] = {"webhook-sender": sender}
    signer = open_signer(settings)
    if signer is not None:
        callbacks = opendsr.CallbackSender(engine, settings, signer)
        follow = partial(opendsr.turn, engine, Profile.of(settings))
        loops["opendsr"] = partial(keep_turning, "opendsr", follow, pause_s=poll_s, stop=stop, turned=metrics.turned)
        pools["opendsr-callbacks"] = callbacks
    for name, pool in pools.items():
        loops[name] = partial(sender_pool.run, pool, name, poll_s=poll_s, stop=stop, turned=metrics.turned)
    return loops


if __name__ == "__main__":
    main()
