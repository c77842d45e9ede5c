"""The one source of time: timezone-aware UTC, replaceable in tests."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The current time in UTC. Leases never use it: they go by the database's clock."""
    return datetime.now(UTC)


def rfc3339(at: datetime) -> str:
    """``2031-03-01T11:12:40.120Z``: UTC, milliseconds, ``Z``. ``at`` must be timezone-aware."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
