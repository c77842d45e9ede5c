"""The spans of a run: one for the attempt, linked to the requests that it serves, and one for each phase in it."""

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from opentelemetry.trace import Tracer

from core.platform.leases import Lease
from core.platform.tracing import links_to


class RunTrace:
    """An attempt at work. Use as a context manager."""

    def __init__(self, tracer: Tracer, lease: Lease, parents: Iterable[str | None]) -> None:
        """``parents``: the ``traceparent`` of each request that the run serves, None where it was not traced."""
        self._tracer = tracer
        self._phase: str | None = None
        self._open = ExitStack()
        self._phases = ExitStack()
        attributes = {"unlearn.run_id": lease.row_id, "unlearn.attempt": lease.attempt}
        self._span = tracer.start_as_current_span("run", links=links_to(parents), attributes=attributes)

    def __enter__(self) -> Self:
        """Starts the attempt's span."""
        self._open.enter_context(self._span)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it, and the phase that it was in."""
        self._phases.close()
        self._open.__exit__(kind, error, trace)

    def enter(self, phase: str) -> None:
        """The run is in this phase now; again is no change."""
        if phase != self._phase:
            self._phases.close()
            self._phase = phase
            self._phases.enter_context(self._tracer.start_as_current_span(phase))
