"""Health for orchestrators, numbers for Prometheus. No credential is asked for."""

from collections.abc import Callable
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from api.deps import Config, Db
from api.schemas.health import HealthOut, PartOut, ReadinessOut
from core.platform import broker
from core.platform.errors import DependencyDown, DomainError

router = APIRouter(tags=["health"])
log = structlog.get_logger()

_RETRY_AFTER: Final = {"Retry-After": "5"}


@router.get("/healthz", summary="Is the process up")
async def healthz() -> HealthOut:
    """Answers as long as the process can answer at all; asks no other part."""
    return HealthOut(status="ok")


@router.get(
    "/readyz",
    summary="Is every part ready",
    response_model=ReadinessOut,
    responses={503: {"model": ReadinessOut, "description": "A part does not answer"}},
)
def readyz(request: Request, reply: Response, config: Config, database: Db) -> ReadinessOut:
    """Asks database, broker and object store, and names each. 503 while one does not answer."""
    parts = {
        "database": _asked("database", lambda: _ask_database(database.engine)),
        "broker": _asked("broker", lambda: broker.check(config)),
        "object_store": _asked("object_store", lambda: request.app.state.store().check()),
    }
    ready = all(part.status == "ok" for part in parts.values())
    if not ready:
        reply.status_code = 503
        reply.headers.update(_RETRY_AFTER)
    return ReadinessOut(status="ready" if ready else "not_ready", parts=parts)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Request counts and durations, and the state of work (`docs/monitoring.md`), in Prometheus's text format."""
    return Response(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_LATEST)


def _ask_database(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError:
        raise DependencyDown("The database does not answer.") from None


def _asked(name: str, ask: Callable[[], None]) -> PartOut:
    try:
        ask()
    except DomainError as error:
        log.warning("part_down", part=name)
        return PartOut(status="down", detail=error.detail)
    return PartOut(status="ok")
