"""A run as a stream of Server-Sent Events. Between looks it holds no thread, no transaction and no connection."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from sqlalchemy.orm import Session

from api.deps import Database
from api.schemas.runs import progress_of
from core.platform.clock import rfc3339
from core.runs.lifecycle import FINAL
from core.runs.service import News

_LOOK_EVERY_S = 0.5
_COMMENT_EVERY_S = 15.0
_PLACE = re.compile(r"(\d{1,9})\.(\d{1,9})\.(-?\d{1,9})")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a follower has seen: number in the timeline, attempt, step of that attempt's ledger."""

    event: int = 0
    attempt: int = 0
    step: int = -1

    @classmethod
    def read(cls, event_id: str | None) -> Self:
        """The place that an event id stands for; the beginning for one that is none of ours."""
        match = _PLACE.fullmatch(event_id or "")
        return cls(*map(int, match.groups())) if match else cls()

    def __str__(self) -> str:
        """The event id."""
        return f"{self.event}.{self.attempt}.{self.step}"


async def follow(
    database: Database,
    look: Callable[[Session, Place], News],
    place: Place,
    *,
    gone: Callable[[], Awaitable[bool]],
) -> AsyncIterator[str]:
    """Everything behind ``place``, then what happens, until the run has ended or the follower is ``gone``."""
    revision, said_at = -1, time.monotonic()
    while not await gone():
        here = place
        news = await database.run(lambda tx, here=here: look(tx, here))
        for kind, at, data in _told(news, place):
            place = at
            said_at = time.monotonic()
            yield _event(kind, place, data)
        if news.run.revision != revision:
            revision, said_at = news.run.revision, time.monotonic()
            yield _event("progress", place, progress_of(news.run.status, news.run.progress).model_dump())
        if news.run.status in FINAL and not news.steps:
            return
        if time.monotonic() - said_at > _COMMENT_EVERY_S:
            said_at = time.monotonic()
            yield ": still here\n\n"
        if not news.steps:
            await asyncio.sleep(_LOOK_EVERY_S)


def _told(news: News, place: Place) -> list[tuple[str, Place, dict[str, Any]]]:
    told: list[tuple[str, Place, dict[str, Any]]] = []
    for step in news.steps:
        place = replace(place, attempt=step.attempt, step=step.step)
        told.append(("step", place, step.row))
    for event in news.events:
        place = replace(place, event=event.sequence)
        data = {"type": event.type, "status": event.status, "detail": event.detail, "at": rfc3339(event.at)}
        told.append(("status", place, data))
    return told


def _event(kind: str, place: Place, data: dict[str, Any]) -> str:
    return f"id: {place}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
