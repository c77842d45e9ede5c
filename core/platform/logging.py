"""Structured logs: a constant event name and key-value fields; JSON unless a person is looking at a terminal."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.trace import format_trace_id, get_current_span
from structlog.typing import ExcInfo

from core.platform.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.exc import DBAPIError


def traceback_of(exc_info: ExcInfo) -> str:
    """Where an error and those that led to it were raised, and what they say, unless they quote values of rows."""
    import psycopg  # here, because processes without a database log too, and do without them
    from sqlalchemy.exc import DBAPIError

    told = "".join(traceback.format_exception(exc_info[1]))
    led: BaseException | None = exc_info[1]
    while led is not None:
        if isinstance(led, psycopg.Error | DBAPIError):
            for words in (str(led), str(led.args[0]) if led.args else ""):
                told = told.replace(words.strip(), _without_values(led)) if words.strip() else told
        led = led.__cause__ or led.__context__
    return told.rstrip("\n")


def _without_values(error: "psycopg.Error | DBAPIError") -> str:
    """What the database calls the error, without its message: ``Key (subject_id)=(…) already exists.``"""
    import psycopg

    cause = error if isinstance(error, psycopg.Error) else error.orig
    if not isinstance(cause, psycopg.Error):
        return type(cause).__name__
    return f"sqlstate {cause.sqlstate}, {cause.diag.constraint_name or cause.diag.table_name or 'no constraint named'}"


def _with_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the trace that a line belongs to, when there is one."""
    span = get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format_trace_id(span.trace_id)
    return event


def _on_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spell out what would break the line of a terminal, move its cursor or turn its text round."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception" and not value.isprintable():
            event[name] = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
    return event


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's records to standard error in one format."""
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # A plain traceback: the pretty one prints local variables, and those may hold secrets.
    console = structlog.dev.ConsoleRenderer()
    render: structlog.typing.Processor = structlog.processors.JSONRenderer() if as_json else console
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    final.append(structlog.processors.ExceptionRenderer(traceback_of))
    if not as_json:  # JSON escapes by itself
        final.append(_on_one_line)
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final, render]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every address it calls
