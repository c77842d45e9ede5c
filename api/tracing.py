"""A span for each request, in the caller's trace if it sent one."""

from typing import Final

from opentelemetry.trace import SpanKind, StatusCode, Tracer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.platform.tracing import context_of

_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class ServerSpans:
    """Opens the span. Its name has the route's template: no ids, no query strings."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        """Wraps ``app``."""
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through, and what probes and scrapers ask."""
        if scope["type"] != "http" or scope["path"] in _QUIET:
            return await self._app(scope, receive, send)
        method = scope["method"]
        parent = context_of(Headers(scope=scope).get("traceparent"))
        with self._tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as span:

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, watch)
            finally:
                route = getattr(scope.get("route"), "path", None) or "unmatched"
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.set_attribute("unlearn.request_id", scope["state"]["request_id"])
        return None
