"""``python -m worker.loops``: every background loop of the service, each in a thread of its own.

Any number of these processes may run side by side; rows are locked, so that no work is done twice.
"""

import signal
import threading
from collections.abc import Callable
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from core.opendsr.profile import Profile
from core.opendsr.signing import open_signer
from core.platform import embedded, logging
from core.platform.database import open_engine
from core.platform.objects import open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.webhooks.messages import fan_out
from worker.app import make_app
from worker.loops import (
    certifier,
    deadlines,
    indexer,
    opendsr,
    planner,
    reaper,
    relay,
    replayer,
    sender_pool,
    sweeper,
    webhook_sender,
)
from worker.loops.turning import keep_turning
from worker.metrics import LoopMetrics, exposed

log = structlog.get_logger()

_CONNECTIONS = 16
"""One for each loop and some for the threads that send webhooks and callbacks."""


def main() -> None:
    """Turn every loop until SIGTERM or SIGINT, then end each after the turn it is in."""
    settings = embedded.resolve(Settings())
    logging.configure(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = CollectorRegistry()
    loops = _loops(settings, stop, LoopMetrics(registry))
    threads = [threading.Thread(target=loop, name=name) for name, loop in loops.items()]
    with exposed(registry, host=settings.metrics_host, port=settings.loops.metrics_port):
        for thread in threads:
            thread.start()
        log.info("loops_started", loops=[thread.name for thread in threads])
        for thread in threads:
            thread.join()
    log.info("loops_stopped")


def _loops(settings: Settings, stop: threading.Event, metrics: LoopMetrics) -> dict[str, Callable[[], None]]:
    assert settings.database.url is not None  # noqa: S101
    assert settings.secret is not None  # noqa: S101
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=_CONNECTIONS)
    store = open_store(settings)
    keyring = Keyring.of(settings)
    poll_s, sweep_s = settings.loops.poll_s, settings.loops.sweep_s
    turns: dict[str, tuple[Callable[[], object], float]] = {
        "relay-tasks": (partial(relay.turn_tasks, engine, relay.task_sender(make_app(settings))), poll_s),
        "relay-events": (partial(relay.turn_events, engine, fan_out), poll_s),
        "planner": (partial(planner.turn, engine), poll_s),
        "deadlines": (partial(deadlines.turn, engine), poll_s),
        "reaper": (partial(reaper.turn, engine, settings.worker), poll_s),
        "certifier": (partial(certifier.turn, engine, keyring, settings.public_url), poll_s),
        "indexer": (partial(indexer.turn, engine, store, keyring, settings), poll_s),
        "replayer": (partial(replayer.turn, engine), poll_s),
        "sweeper": (partial(sweeper.turn, engine, store, settings.loops), sweep_s),
    }
    sender = webhook_sender.WebhookSender(engine, settings, keyring)
    loops: dict[str, Callable[[], None]] = {
        name: partial(keep_turning, name, turn, pause_s=pause_s, stop=stop, turned=metrics.turned)
        for name, (turn, pause_s) in turns.items()
    }
    loops["webhook-sender"] = partial(sender_pool.run, sender, stop.wait, poll_s=poll_s)
    signer = open_signer(settings)
    if signer is not None:
        callbacks = opendsr.CallbackSender(engine, settings, signer)
        follow = partial(opendsr.turn, engine, Profile.of(settings))
        loops["opendsr"] = partial(keep_turning, "opendsr", follow, pause_s=poll_s, stop=stop, turned=metrics.turned)
        loops["opendsr-callbacks"] = partial(sender_pool.run, callbacks, stop.wait, poll_s=poll_s)
    return loops


if __name__ == "__main__":
    main()
