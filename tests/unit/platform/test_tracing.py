"""A request's span, a run's span linked to it, and their way to a collector over OTLP."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.middleware import RequestId
from api.tracing import ServerSpans
from core.platform.leases import Lease
from core.platform.settings import Settings
from core.platform.tracing import links_to, provider_of, traceparent
from worker.tracing import RunTrace

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(kept: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(kept))
    return made


def ask(provider: TracerProvider, path: str, **headers: str) -> str | None:
    """One request to an application whose route answers with the ``traceparent`` that it would keep."""
    app = FastAPI()

    @app.get("/things/{name}")
    def thing(name: str) -> dict[str, str | None]:
        return {"parent": traceparent()}

    wrapped = RequestId(ServerSpans(app, provider.get_tracer("test")))

    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=wrapped), base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(go()).json().get("parent")


def test_a_request_goes_on_in_the_callers_trace_under_a_template(
    provider: TracerProvider, kept: InMemorySpanExporter
) -> None:
    parent = ask(provider, "/things/secret-name?q=secret", traceparent=CALLER)
    (span,) = kept.get_finished_spans()
    assert span.name == "GET /things/{name}"
    assert format(span.context.trace_id, "032x") == CALLER.split("-")[1]
    assert parent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert "secret" not in str(dict(span.attributes or {}))
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200


def test_a_run_is_linked_to_what_asked_for_it_and_shows_its_phases(
    provider: TracerProvider, kept: InMemorySpanExporter
) -> None:
    with RunTrace(provider.get_tracer("test"), Lease("run_1", "t", 2), [CALLER, None, "nonsense"]) as trace:
        for phase in ("assessing", "unlearning", "unlearning", "evaluating"):
            trace.enter(phase)
    spans = {span.name: span for span in kept.get_finished_spans()}
    assert list(spans) == ["assessing", "unlearning", "evaluating", "run"]
    run = spans["run"]
    assert [format(link.context.span_id, "016x") for link in run.links] == [CALLER.split("-")[2]]
    assert dict(run.attributes or {}) == {"unlearn.run_id": "run_1", "unlearn.attempt": 2}
    assert spans["unlearning"].parent is not None
    assert spans["unlearning"].parent.span_id == run.context.span_id


def test_nothing_is_kept_or_linked_while_nothing_is_traced() -> None:
    assert traceparent() is None
    assert links_to([None, "nonsense"]) == []


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An address that takes OTLP over HTTP, and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_arrive_at_the_collector_that_the_settings_name(collector: tuple[str, list[bytes]]) -> None:
    address, bodies = collector
    provider = provider_of(Settings.model_validate({"tracing": {"endpoint": address}}), "worker")
    with provider.get_tracer("test").start_as_current_span("run"):
        pass
    provider.shutdown()
    (body,) = bodies
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "unlearn-worker"
    assert resource.scope_spans[0].spans[0].name == "run"


def test_of_requests_without_a_trace_only_a_share_is_kept() -> None:
    settings = Settings.model_validate({"tracing": {"endpoint": "http://127.0.0.1:1/", "share": 0.0}})
    provider = provider_of(settings, "api")
    with provider.get_tracer("test").start_as_current_span("request") as span:
        assert not span.is_recording()
    provider.shutdown()


@settings(deadline=None)
@given(
    st.text(st.characters(max_codepoint=255))
    | st.from_regex(r"\A[0-9a-zA-Z]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-z]{2}\Z")
)
def test_any_traceparent_is_followed_or_passed_over(given_parent: str) -> None:
    assert len(links_to([given_parent])) <= 1
    assert all(link.context.is_valid for link in links_to([given_parent, CALLER]))
    assert len(links_to([CALLER])) == 1
