"""Numbers about requests, for Prometheus. Each application has a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


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
