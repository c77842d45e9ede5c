"""Answers that wait for an end, and answers that need not be sent again.

While a call waits it holds no thread, no transaction and no database connection.
"""

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders

from api.deps import Database

T = TypeVar("T")

LONGEST_S: Final = 30
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_AT_ONCE: Final = re.compile(r"(?:^|[,;])\s*respond-async\s*(?=$|[,;])", re.IGNORECASE)
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0


class Waiter:
    """How long the caller is willing to wait (``Prefer: wait=N``), and the waiting."""

    def __init__(self, database: Database, seconds: int | None) -> None:
        """``seconds``: None when the caller said nothing about waiting."""
        self._database = database
        self._asked = seconds
        self.seconds = seconds or 0

    def otherwise(self, seconds: float) -> "Waiter":
        """The same; waits so long, at most ``LONGEST_S``, when the caller said nothing about it."""
        if self._asked is None:
            self.seconds = min(math.ceil(seconds), LONGEST_S)
        return self

    async def look(self, tx: Session, read: Callable[[Session], T], done: Callable[[T], bool]) -> T:
        """``until``, or what ``read`` gives at once when the caller does not wait; commits ``tx`` either way."""
        return await self.until(tx, read, done) if self.seconds else await run_in_threadpool(_read_last, tx, read)

    async def until(self, tx: Session, read: Callable[[Session], T], done: Callable[[T], bool]) -> T:
        """``read``'s result once it is ``done`` or the time is over.

        Commits ``tx`` first, so that what the call has written is in effect while it waits; each ``read`` runs in a
        short transaction of its own, in a thread.
        """
        await self._database.end_early(tx)
        return await self.read(read, done)

    async def read(self, read: Callable[[Session], T], done: Callable[[T], bool]) -> T:
        """As ``until``, for a call that has no transaction open."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.seconds, _FIRST_PAUSE_S
        result = await self._database.run(read)
        while not done(result) and (left := deadline - loop.time()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
            result = await self._database.run(read)
        return result

    def applied(self, headers: MutableHeaders) -> None:
        """Say in the answer that the preference was heeded, if there was one."""
        if self._asked:
            headers["Preference-Applied"] = f"wait={self._asked}"


def _read_last(tx: Session, read: Callable[[Session], T]) -> T:
    found = read(tx)
    tx.commit()  # in this thread: one more turn of a thread costs as much as a statement
    return found


async def waiter(
    request: Request,
    prefer: Annotated[
        str | None, Header(description=f"`wait=N` holds the answer up to N seconds, at most {LONGEST_S} (RFC 7240)")
    ] = None,
) -> Waiter:
    """The ``Wait`` of this request. Preferences that cannot be read are ignored, as RFC 7240 asks."""
    database: Database = request.app.state.database
    match = _WAIT.search(prefer or "")
    if match is None and _AT_ONCE.search(prefer or ""):
        return Waiter(database, 0)
    return Waiter(database, min(int(match[1]), LONGEST_S) if match else None)


Wait = Annotated[Waiter, Depends(waiter)]
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="`ETag` of the copy at hand: 304 if it holds")
]


def etag_of(out: BaseModel) -> str:
    """A tag for an answer that has no revision of its own: from its content."""
    return f'"{hashlib.sha256(out.model_dump_json().encode()).hexdigest()[:32]}"'


def unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller's copy is current. ``etag`` has its quotes; weak ones compare like strong ones."""
    if if_none_match is None:
        return False
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in known or etag.removeprefix("W/") in known


def not_modified(headers: Mapping[str, str]) -> Response:
    """304 for a copy that is current; ``headers``: its ``ETag``, and ``Retry-After`` while it may still change."""
    return Response(status_code=304, headers=headers)
