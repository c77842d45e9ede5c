"""Values sealed under a previous secret, sealed again under the current one, a portion a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, Engine, and_, func, inspect, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.platform.database import Base, transaction
from core.platform.secrets import Keyring

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column that holds what ``Keyring.seal`` gave, for one purpose; empty and null mean nothing is kept."""

    table: type[Base]
    column: InstrumentedAttribute[Any]
    purpose: str

    @property
    def name(self) -> str:
        """Table and column."""
        return f"{self.table.__tablename__}.{self.column.key}"


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of a column's old values. ``lost``: no configured secret opens them."""

    done: int
    lost: int


def strangers(tx: Session, sealed: Sealed, keyring: Keyring) -> int:
    """How many values name a key that is of none of the configured secrets."""
    named = func.encode(func.substring(sealed.column, 1, len(keyring.mark) - 1), "escape")
    marked = func.substring(sealed.column, len(keyring.mark), 1) == b"."
    query = select(func.count()).select_from(sealed.table).where(marked, named.not_in(keyring.key_ids))
    return tx.scalar(query) or 0


def behind(tx: Session, sealed: Sealed, keyring: Keyring) -> int:
    """How many values are not sealed under the current secret."""
    return tx.scalar(select(func.count()).select_from(sealed.table).where(_old(sealed, keyring))) or 0


def reseal(engine: Engine, sealed: Sealed, keyring: Keyring) -> Resealed:
    """Seal again whatever is not sealed under the current secret; safe beside whoever uses or changes the values."""
    done, lost, after = 0, 0, None
    while True:
        with transaction(engine) as tx:
            rows = _portion(tx, sealed, keyring, after)
            for *key, value in rows:
                try:
                    fresh = keyring.seal(sealed.purpose, keyring.open(sealed.purpose, value))
                except ValueError:
                    lost += 1
                    continue
                done += _replace(tx, sealed, key, value, fresh)
        if not rows:
            return Resealed(done, lost)
        after = rows[-1][:-1]


def _portion(tx: Session, sealed: Sealed, keyring: Keyring, after: Sequence[Any] | None) -> Sequence[Sequence[Any]]:
    keys = inspect(sealed.table).primary_key
    query = select(*keys, sealed.column).where(_old(sealed, keyring)).order_by(*keys).limit(_AT_ONCE)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple(after))
    return [tuple(row) for row in tx.execute(query)]


def _replace(tx: Session, sealed: Sealed, key: Sequence[Any], value: bytes, fresh: bytes) -> int:
    """Unless somebody has changed it since it was read."""
    places = zip(inspect(sealed.table).primary_key, key, strict=True)
    same = and_(*(column == part for column, part in places), sealed.column == value)
    change = update(sealed.table).where(same).values({sealed.column: fresh})
    return cast("CursorResult[Any]", tx.execute(change.execution_options(synchronize_session=False))).rowcount


def _old(sealed: Sealed, keyring: Keyring) -> ColumnElement[bool]:
    length, begins = func.length(sealed.column), func.substring(sealed.column, 1, len(keyring.mark))
    return and_(sealed.column.is_not(None), length > 0, begins != keyring.mark)
