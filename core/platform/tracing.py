"""Traces, from the request that asked for something to the run that did it; OpenTelemetry behind one setting.

Without the setting every span is the library's empty one and costs next to nothing. With it spans go to a collector in
OTLP over HTTP, from a thread of the exporter's: one that is away loses spans and delays nothing.
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Link, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.platform.settings import Settings
from core.platform.version import code

_NAME: Final = "unlearn"
_FIELD: Final = "traceparent"
_CONTEXT: Final = TraceContextTextMapPropagator()


class TracingNotInstalled(Exception):
    """A collector is named, and the packages that would send to it are not there."""


def open_tracing(settings: Settings, *, process: str) -> Callable[[], None]:
    """Send this process's spans to the collector that the settings name, if any; the answer ends that.

    Raises ``TracingNotInstalled``.
    """
    if settings.tracing.endpoint is None:
        return lambda: None
    provider = provider_of(settings, process)
    trace.set_tracer_provider(provider)
    return provider.shutdown


def provider_of(settings: Settings, process: str) -> Any:
    """Makes spans for the collector that the settings name. Raises ``TracingNotInstalled``."""
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        sampling = importlib.import_module("opentelemetry.sdk.trace.sampling")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise TracingNotInstalled(f"{error.name} is missing; install unlearning-service[tracing]") from None
    resource = resources.Resource.create({"service.name": f"{_NAME}-{process}", "service.version": code()["version"]})
    sampler = sampling.ParentBased(sampling.TraceIdRatioBased(settings.tracing.share))
    provider = sdk.TracerProvider(resource=resource, sampler=sampler)
    exporter = otlp.OTLPSpanExporter(endpoint=str(settings.tracing.endpoint))
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return provider


def tracer() -> Tracer:
    """Makes spans; empty ones until ``open_tracing`` has named a collector."""
    return trace.get_tracer(_NAME)


def traceparent() -> str | None:
    """The current span in the form of the W3C's header, to be kept with what it caused; None when nothing is traced."""
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier)
    return carrier.get(_FIELD)


def context_of(given: str | None) -> Any:
    """The context that a ``traceparent`` speaks of; an empty one for None or anything that is none."""
    return _CONTEXT.extract({_FIELD: given} if given else {})


def links_to(parents: Iterable[str | None]) -> list[Link]:
    """Links to the spans of these ``traceparent`` values; those that are none are passed over."""
    spans = (trace.get_current_span(context_of(parent)).get_span_context() for parent in parents if parent)
    return [Link(span) for span in spans if span.is_valid]
