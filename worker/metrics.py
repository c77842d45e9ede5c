"""Numbers of one process for Prometheus, on a port of its own: what a worker's runs do, how the loops turn."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

log = structlog.get_logger()

_STEP_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_TURN_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)


class RunMetrics:
    """The runs of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics."""
        self._steps = Histogram(
            "unlearn_step_seconds",
            "Time of a step, retries included.",
            ("kind",),
            registry=registry,
            buckets=_STEP_BUCKETS,
        )
        self._left = Counter("unlearn_runs_left", "Runs that this worker let go of.", ("status",), registry=registry)
        self._lost = Counter("unlearn_leases_lost", "Runs that were taken from this worker.", registry=registry)

    def stepped(self, row: Mapping[str, Any]) -> None:
        """Note a row of a ledger."""
        if isinstance(seconds := row.get("seconds"), int | float):
            self._steps.labels(str(row.get("kind", "step"))).observe(seconds)

    def left(self, status: str) -> None:
        """Note that a run was let go of in this status."""
        self._left.labels(status).inc()

    def lost(self) -> None:
        """Note that a lease had run out while the run was at work."""
        self._lost.inc()


class LoopMetrics:
    """The turns of background loops. Turns of the reaper that found work are runs taken over from dead workers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics."""
        self._turns = Counter(
            "unlearn_loop_turns", "Turns, by what came of them.", ("loop", "result"), registry=registry
        )
        self._seconds = Histogram(
            "unlearn_loop_turn_seconds", "Time of a turn.", ("loop",), registry=registry, buckets=_TURN_BUCKETS
        )

    def turned(self, loop: str, result: str, seconds: float) -> None:
        """Note a turn that found ``work``, was ``idle``, or ``failed``."""
        self._turns.labels(loop, result).inc()
        self._seconds.labels(loop).observe(seconds)


@contextmanager
def exposed(registry: CollectorRegistry, *, host: str, port: int | None) -> Iterator[None]:
    """Answer ``GET /metrics`` at this address while the block lasts; without a port, do nothing.

    A port that is taken is logged and done without: numbers are not worth a worker.
    """
    stop: Callable[[], None] | None = None
    if port is not None:
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            log.warning("metrics_not_served", port=port, reason=error.strerror)
        else:
            log.info("metrics_served", host=host, port=port)
            stop = _stopper(server, thread)
    try:
        yield
    finally:
        if stop is not None:
            stop()


def _stopper(server: WSGIServer, thread: threading.Thread) -> Callable[[], None]:
    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return stop
