"""The web application: routers, middleware order, what all requests share."""

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api import errors, openapi
from api.deps import Database
from api.limits import RateLimits, tell_standing
from api.metrics import LimitMetrics, RequestMetrics, WorkMetrics
from api.middleware import (
    AccessLog,
    AnswerHeaders,
    JsonBody,
    LastResort,
    RequestId,
    keep_to_https,
    name_request,
    secure,
    tell_mode,
)
from api.opendsr import routes as opendsr
from api.opendsr.frame import OpenDsrFrame
from api.retiring import tell_retirement
from api.routes import (
    access,
    audit,
    certificates,
    datasets,
    deletion_requests,
    documentation,
    events,
    hardness_assessments,
    health,
    legal_holds,
    models,
    oauth,
    opendsr_requests,
    plots,
    policies,
    reports,
    runs,
    sandbox,
    storage,
    subjects,
    uploads,
    webhook_endpoints,
)
from api.tracing import ServerSpans
from core.access.tokens import Tokens
from core.deletions.room import Room
from core.opendsr.signing import Signer, open_signer
from core.operations import service as operations
from core.platform.clock import Clock, utc_now
from core.platform.database import open_engine, transaction
from core.platform.limits import open_limiter
from core.platform.objects import ObjectStore, open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.platform.tracing import tracer

log = structlog.get_logger()

ROUTES: Final = (
    deletion_requests,  # first, because each is asked in turn whether a call is its own
    access,
    oauth,
    audit,
    policies,
    uploads,
    storage,
    datasets,
    models,
    subjects,
    hardness_assessments,
    runs,
    plots,
    certificates,
    reports,
    legal_holds,
    webhook_endpoints,
    events,
    opendsr_requests,
    opendsr,
    sandbox,
    health,
    documentation,
)


def create_app(
    settings: Settings, engine: Engine | None = None, store: ObjectStore | None = None, clock: Clock = utc_now
) -> FastAPI:
    """The service's web application on these settings. An engine or store that is given is not closed at the end.

    Raises ``ValueError`` when the settings name no database or secret (``core.platform.embedded.resolve`` fills them).
    """
    if settings.secret is None:
        raise ValueError("UNLEARN_SECRET is not set")
    own_engine = engine is None
    engine = engine or _engine_of(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        if own_engine:
            engine.dispose()

    registry = CollectorRegistry()
    registry.register(WorkMetrics(functools.partial(_survey, engine)))
    signer = _signer_of(settings)
    app = FastAPI(
        title="Unlearning service",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        middleware=_middlewares(settings, RequestMetrics(registry), signer),
    )
    app.state.settings = settings
    app.state.base_url = settings.public_url
    app.state.keyring = Keyring.of(settings)
    app.state.tokens = Tokens(app.state.keyring, settings.public_url)
    app.state.clock = clock
    app.state.opendsr = signer
    app.state.metrics = registry
    app.state.limits = _limits_of(settings, LimitMetrics(registry))
    app.state.room = Room(settings.api.max_open_requests)
    app.state.database = Database(engine, connections=2 * settings.database.pool_size)
    app.state.store = _store_of(settings, store)
    errors.install(app)
    for module in ROUTES:
        app.include_router(module.router)
    openapi.install(app)
    return app


def _engine_of(settings: Settings) -> Engine:
    if settings.database.url is None:
        raise ValueError("UNLEARN_DATABASE__URL is not set")
    return open_engine(settings.database.url.get_secret_value(), pool_size=settings.database.pool_size)


def _survey(engine: Engine) -> operations.Survey:
    with transaction(engine) as tx:
        return operations.survey(tx)


def _store_of(settings: Settings, store: ObjectStore | None) -> Callable[[], ObjectStore]:
    # Opened on first use: the process starts, and says so, while the store is away.
    return functools.cache(lambda: store if store is not None else open_store(settings))


def _limits_of(settings: Settings, metrics: LimitMetrics) -> RateLimits:
    return RateLimits(settings.limits, open_limiter(settings, on_skip=metrics.skip), metrics)


def _signer_of(settings: Settings) -> Signer | None:
    signer = open_signer(settings)
    if signer is not None and signer.self_signed:
        log.warning("opendsr_certificate_is_self_signed", domain=signer.domain, advice="for development only")
    return signer


def _middlewares(settings: Settings, metrics: RequestMetrics, signer: Signer | None) -> list[Middleware]:
    """From the outermost inwards. Every answer, 500 included, passes through all that stand before ``LastResort``."""
    url = settings.public_url
    changes = [tell_mode, tell_retirement, tell_standing, secure, name_request]
    return [
        Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.api.trusted_proxies)),
        Middleware(RequestId),
        Middleware(ServerSpans, tracer=tracer()),
        Middleware(AccessLog, metrics=metrics),
        Middleware(AnswerHeaders, changes=[*changes, keep_to_https] if url.startswith("https://") else changes),
        Middleware(OpenDsrFrame, signer=signer),
        Middleware(JsonBody, limit_bytes=settings.api.body_limit_bytes, base_url=url),
        Middleware(LastResort, base_url=url),
    ]
