"""Lists by keyset on ``(created_at, id)``: newest first, stable while rows are inserted.

A cursor is opaque and signed, and bound to the list it came from: workspace, path and filters.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar, TypeVarTuple

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from core.platform.errors import DomainError
from core.platform.secrets import Keyring

Position = tuple[datetime, str]
Row = TypeVar("Row")
Columns = TypeVarTuple("Columns")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_MAC_BYTES = 16


class BadCursor(DomainError):
    """The cursor is not one that this list gave out, or the filters have changed since."""

    code = "bad_cursor"


@dataclass(frozen=True, slots=True)
class Cursors:
    """Writes and reads the cursors of one list. ``scope`` names the list and its filters."""

    keyring: Keyring
    scope: str

    def write(self, position: Position) -> str:
        """The position as an opaque string."""
        message = json.dumps([position[0].isoformat(), position[1]]).encode()
        mac = self.keyring.mac("cursor", self._signed(message))[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac + message).decode().rstrip("=")

    def read(self, cursor: str) -> Position:
        """The position written before. Raises ``BadCursor`` for anything else."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadCursor("The cursor cannot be read.") from None
        mac, message = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not self.keyring.vouches("cursor", self._signed(message), mac, size=_MAC_BYTES):
            raise BadCursor("The cursor does not belong to this list with these filters.")
        at, row_id = json.loads(message)
        return datetime.fromisoformat(at), row_id

    def _signed(self, message: bytes) -> bytes:
        return self.scope.encode() + b"\0" + message


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: up to ``limit`` rows after ``after``; the beginning when it is None."""

    limit: int = DEFAULT_LIMIT
    after: Position | None = None
    cursors: Cursors | None = None


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """A part of a list and how to go on."""

    data: tuple[Row, ...]
    next_cursor: str | None
    has_more: bool


def keyset(
    query: Select[*Columns],
    page: Page,
    created_at: InstrumentedAttribute[datetime],
    row_id: InstrumentedAttribute[str],
    *,
    newest_first: bool = True,
) -> Select[*Columns]:
    """``query`` ordered and cut to the page, with one row more by which ``page_of`` sees whether there is a next."""
    place = tuple_(created_at, row_id)
    if page.after is not None:
        query = query.where(place < page.after if newest_first else place > page.after)
    order = (created_at.desc(), row_id.desc()) if newest_first else (created_at, row_id)
    return query.order_by(*order).limit(page.limit + 1)


def page_of(rows: Sequence[Row], page: Page, position: Callable[[Row], Position]) -> Slice[Row]:
    """The page from rows that were read with ``keyset``; ``position`` tells a row's place in the list."""
    data = tuple(rows[: page.limit])
    has_more = len(rows) > page.limit
    if not has_more or page.cursors is None:
        return Slice(data, None, has_more)
    return Slice(data, page.cursors.write(position(data[-1])), has_more)
