"""What routes ask for by type: transaction, time, settings, store, keys, caller, page."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar, cast

import structlog
from anyio import CancelScope
from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL

from api.limits import RateLimits
from api.schemas.common import Listing
from api.security import asks_for, credential_of
from core.access.principal import Principal
from core.access.service import Unauthenticated
from core.access.tokens import Tokens
from core.deletions.room import Room
from core.platform.clock import Clock
from core.platform.objects import ObjectStore
from core.platform.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursors, Page, Slice
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.sandbox import service as sandbox

_PLACE = ("limit", "cursor")
T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)


class Database:
    """Transactions for requests. No more are open at a time than there are connections.

    Without that bound, requests that hold a connection and wait for a thread, and threads that wait for a connection,
    could wait for each other.
    """

    def __init__(self, engine: Engine, *, connections: int) -> None:
        """``connections``: how many the engine's pool gives out at most."""
        self.engine = engine
        self._slots = asyncio.Semaphore(connections)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Session]:
        """A session that commits when the block ends and rolls back when it raises; see ``end_early``."""
        await self._slots.acquire()
        session = Session(self.engine, expire_on_commit=False)
        session.info["held"] = True
        try:
            yield session
            await _commit(session)
        finally:
            await _close(session)
            self._free(session)

    async def end_early(self, session: Session) -> None:
        """Commit now and give the connection back, because what follows only waits."""
        await _commit(session)
        await _close(session)
        self._free(session)

    async def run(self, work: Callable[[Session], T]) -> T:
        """``work`` in a transaction and a thread of its own: for routes that stream or wait."""
        async with self.transaction() as tx:
            return await run_in_threadpool(work, tx)

    def _free(self, session: Session) -> None:
        if session.info.pop("held", False):
            self._slots.release()


async def _commit(session: Session) -> None:
    """Nothing is left to do when the work has ended with a commit, in the thread that it had; another turn costs."""
    if session.in_transaction():
        await run_in_threadpool(session.commit)


async def _close(session: Session) -> None:
    """A commit has given the connection back already, and then nothing is left to do that would need a thread."""
    if session.in_transaction():
        with CancelScope(shield=True):
            await run_in_threadpool(session.close)
    else:
        session.close()


async def _database(request: Request) -> Database:
    return request.app.state.database


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


async def _store(request: Request) -> ObjectStore:
    return request.app.state.store()


async def _keyring(request: Request) -> Keyring:
    return request.app.state.keyring


async def _room(request: Request) -> Room:
    return request.app.state.room


async def _limits(request: Request) -> RateLimits:
    return request.app.state.limits


async def _tokens(request: Request) -> Tokens:
    return request.app.state.tokens


async def _now(request: Request) -> datetime:
    return cast(Clock, request.app.state.clock)()


Db = Annotated[Database, Depends(_database)]
Config = Annotated[Settings, Depends(_settings)]
Store = Annotated[ObjectStore, Depends(_store)]
Keys = Annotated[Keyring, Depends(_keyring)]
Now = Annotated[datetime, Depends(_now)]
OpenRoom = Annotated[Room, Depends(_room)]
Limits = Annotated[RateLimits, Depends(_limits)]
AccessTokens = Annotated[Tokens, Depends(_tokens)]


async def open_tx(request: Request) -> AsyncGenerator[Session]:
    """The request's transaction: committed after the route has returned and before the answer leaves."""
    database: Database = request.app.state.database
    async with database.transaction() as tx:
        yield tx


Tx = Annotated[Session, Depends(open_tx, scope="function")]


async def authenticated(request: Request, tx: Tx) -> Principal:
    """Who is calling, once a request. Raises ``Unauthenticated`` and ``TooManyRequests``."""
    given = credential_of(request.headers)
    # Not by dependencies: the framework goes through those of this one again for each that asks who is calling.
    tokens: Tokens = request.app.state.tokens
    limits: RateLimits = request.app.state.limits
    now = await _now(request)

    def recognise() -> Principal:
        try:
            return tokens.authenticate(tx, given, at=now)
        except Unauthenticated as error:
            raise limits.refused(request.scope, error) from None

    def admit() -> Principal:
        known = recognise()
        request.scope["state"]["principal"] = known  # named in the log even if it has called too often
        limits.spend(request.scope, known.key_id)
        return known

    principal = await run_in_threadpool(admit)
    if principal.mode == "test":
        await run_in_threadpool(sandbox.enter, tx, caller=principal, uri=request.app.state.store().uri, at=now)
    structlog.contextvars.bind_contextvars(workspace_id=principal.workspace_id, key_id=principal.key_id)
    return principal


Known = Annotated[Principal, Depends(authenticated)]
"""The caller, for dependencies that are used beside one that is in the OpenAPI document."""


@asks_for()
async def _any_caller(principal: Known) -> Principal:
    return principal


Caller = Annotated[Principal, Depends(_any_caller)]
"""Any authenticated caller, whatever its scopes."""


def requires(scope: str) -> Any:
    """The authenticated caller, who must hold ``scope``; to be written ``Annotated[Principal, requires("…")]``."""

    @asks_for(scope)
    async def caller(principal: Known) -> Principal:
        principal.need(scope)
        return principal

    return Depends(caller)


@dataclass(frozen=True, slots=True)
class PageRequest(Page):
    """The part of a list that was asked for, and how to answer with it."""

    url: URL | None = None
    reply: Response | None = None

    def answer(self, rows: Slice[T], shape: Callable[[T], Shape]) -> Listing[Shape]:
        """The rows in the shape of the wire, with a ``Link`` header to the next page."""
        if self.reply is not None:
            self.reply.headers.update(self._link(rows))
        return Listing[Shape](
            data=[shape(row) for row in rows.data], next_cursor=rows.next_cursor, has_more=rows.has_more
        )

    def raw_answer(self, rows: Slice[T], body: Callable[[T], bytes]) -> Response:
        """The same from rows that are JSON already, which are passed on byte for byte."""
        rest = json.dumps({"next_cursor": rows.next_cursor, "has_more": rows.has_more})[1:]
        content = b'{"data": [' + b",".join(body(row) for row in rows.data) + b"], " + rest.encode()
        return Response(content, headers=self._link(rows), media_type="application/json")

    def _link(self, rows: Slice[T]) -> dict[str, str]:
        if rows.next_cursor is None or self.url is None:
            return {}
        following = self.url.include_query_params(cursor=rows.next_cursor)
        return {"Link": f'<{following.path}?{following.query}>; rel="next"'}


async def list_request(
    request: Request,
    reply: Response,
    caller: Known,
    keyring: Keys,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="rows wanted")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")] = None,
) -> PageRequest:
    """The page that was asked for. Raises ``BadCursor`` for one of another list, filter or workspace."""
    filters = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _PLACE)
    cursors = Cursors(keyring, json.dumps([caller.workspace_id, request.url.path, filters]))
    after = cursors.read(cursor) if cursor is not None else None
    return PageRequest(limit, after, cursors, request.url, reply)


PageIn = Annotated[PageRequest, Depends(list_request)]
