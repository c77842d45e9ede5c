"""Numbers for Prometheus: about requests, counted by this process; about work, looked up at every scrape."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from core.deletions.lifecycle import OPEN
from core.operations.service import Survey
from core.runs.lifecycle import ACTIVE, ASSESSMENT_MOVES, Mode, Status

log = structlog.get_logger()

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_STATES_OF_RUNS: Final = {
    **{(Mode.UNLEARN.value, status.value): 0 for status in (*ACTIVE, Status.NEEDS_REVIEW)},
    **{(Mode.ASSESS.value, status.value): 0 for status, moves in ASSESSMENT_MOVES.items() if moves},
}
"""Every state that can be counted: a series that comes and goes cannot be alerted on."""


class RequestMetrics:
    """Counts and durations by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics."""
        labels = ("method", "route", "status")
        self._count = Counter("unlearn_http_requests", "Requests answered.", labels, registry=registry)
        self._seconds = Histogram(
            "unlearn_http_request_seconds",
            "Time to the end of the answer.",
            labels[:2],
            registry=registry,
            buckets=_BUCKETS,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request."""
        known = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
        self._count.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)


class LimitMetrics:
    """Calls refused by rate limits, and calls that could not be counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics."""
        self._refused = Counter(
            "unlearn_rate_limited", "Calls refused by a rate limit.", ("policy",), registry=registry
        )
        self._skipped = Counter(
            "unlearn_rate_limit_skipped", "Calls not counted because Redis did not answer.", registry=registry
        )

    def refuse(self, policy: str) -> None:
        """Note a call refused."""
        self._refused.labels(policy).inc()

    def skip(self) -> None:
        """Note a call not counted."""
        self._skipped.inc()


class WorkMetrics(Collector):
    """The state of the whole service, the same from every replica; without the database only ``unlearn_survey_up``."""

    def __init__(self, survey: Callable[[], Survey]) -> None:
        """``survey`` is called at every scrape."""
        self._survey = survey

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: names are known without a look at the database."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One survey as gauges."""
        try:
            found = self._survey()
        except SQLAlchemyError as error:
            log.warning("survey_failed", kind=type(error).__name__)
            return (_single("unlearn_survey_up", "Whether the state of work could be read.", 0),)
        return _families(found)


def _families(found: Survey) -> tuple[GaugeMetricFamily, ...]:
    runs = GaugeMetricFamily("unlearn_runs", "Runs that have not ended.", labels=("mode", "status"))
    for labels, count in {**_STATES_OF_RUNS, **found.runs}.items():
        runs.add_metric(labels, count)
    requests = {**dict.fromkeys(sorted(OPEN), 0), **found.requests}
    deliveries = {"waiting": 0, "failing": 0, **found.deliveries}
    return (
        _single("unlearn_survey_up", "Whether the state of work could be read.", 1),
        runs,
        _single("unlearn_leases_run_out", "Runs whose worker is not heard of any more.", found.leases_run_out),
        _by("unlearn_deletion_requests", "Deletion requests that have not ended.", "status", requests),
        _by("unlearn_deadlines", "Open requests by the time that is left.", "due", found.deadlines),
        _by("unlearn_webhook_deliveries", "Webhook deliveries on their way.", "state", deliveries),
        _single("unlearn_webhook_endpoints_disabled", "Endpoints that are sent nothing.", found.endpoints_disabled),
        _by("unlearn_queue_age_seconds", "How long the first of a queue has waited.", "queue", found.oldest),
    )


def _single(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)


def _by(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
