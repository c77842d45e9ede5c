"""How often somebody may do something: token buckets, in Redis for all web processes together or in this process's
memory.

The buckets are throttled-py's (GCRA): one key of constant size a bucket, and one round trip that says all at once.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from throttled import BaseStore, MemoryStore, RedisStore, Throttled, rate_limiter
from throttled.constants import RateLimiterType
from throttled.exceptions import BaseThrottledError

from core.platform.settings import Settings

log = structlog.get_logger()

WINDOW_S: Final = 60
_TIMEOUT_S: Final = 0.5
_PAUSE_S: Final = 5.0
_MOST_IN_MEMORY: Final = 100_000


@dataclass(frozen=True, slots=True)
class Quota:
    """``units`` in ``WINDOW_S`` seconds: a bucket of so many tokens, which fills evenly in that time.

    ``name`` is public.
    """

    name: str
    units: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands with a quota after one more use of it, which was ``allowed`` or not."""

    quota: Quota
    allowed: bool
    remaining: int
    reset_s: int
    """Whole seconds until the bucket is full again; while it is empty, until the next token."""


class Limiter(Protocol):
    """Counts uses. Called from threads."""

    def take(self, quota: Quota, who: str) -> Standing | None:
        """One use of the quota by ``who``; None when nobody knows, and then it is not to be refused."""
        ...


class Buckets:
    """One bucket for each quota and user, in a store of throttled-py. Raises ``BaseThrottledError`` when it is away."""

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        self._made: dict[Quota, Throttled] = {}

    def take(self, quota: Quota, who: str) -> Standing:
        """One use of the quota by ``who``."""
        bucket = self._made.get(quota) or self._made.setdefault(quota, _bucket(self._store, quota))
        used = bucket.limit(f"{quota.name}:{who}")
        state = used.state
        wait_s = state.reset_after if state.remaining else state.retry_after or WINDOW_S / quota.units
        return Standing(quota, not used.limited, state.remaining, max(1, math.ceil(wait_s)))


class Forgiving:
    """Lets everything through while the store is away, and asks it again after a pause: an outage delays few calls."""

    def __init__(
        self, limiter: Limiter, on_skip: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``on_skip`` is called for each use that was not counted."""
        self._limiter = limiter
        self._on_skip = on_skip
        self._clock = clock
        self._ask_again_at = 0.0

    def take(self, quota: Quota, who: str) -> Standing | None:
        """One use of the quota by ``who``; None when the store does not answer."""
        before, now = self._ask_again_at, self._clock()
        if now < before:
            self._on_skip()
            return None
        if before:  # the store was away: others pass while this call tries it
            self._ask_again_at = now + _PAUSE_S
        try:
            standing = self._limiter.take(quota, who)
        except BaseThrottledError as error:
            self._ask_again_at = now + _PAUSE_S
            self._on_skip()
            log.warning("rate_limits_not_counted", kind=type(error).__name__, again_in_s=_PAUSE_S)
            return None
        self._ask_again_at = 0.0
        return standing


def open_limiter(settings: Settings, on_skip: Callable[[], None]) -> Limiter:
    """The limiter of these settings: their Redis, the broker's if that is one, or else this process's memory."""
    named = settings.limits.url or settings.broker.url
    url = named.get_secret_value() if named else ""
    if urlsplit(url).scheme not in ("redis", "rediss"):
        return Buckets(MemoryStore(options={"MAX_SIZE": _MOST_IN_MEMORY}))
    return Forgiving(Buckets(_redis(url)), on_skip)


def _redis(url: str) -> RedisStore:
    options = {
        "REUSE_CONNECTION": False,
        "SOCKET_TIMEOUT": _TIMEOUT_S,
        "SOCKET_CONNECT_TIMEOUT": _TIMEOUT_S,
        # Once more at once, for a connection that Redis has closed meanwhile; waiting is not worth it.
        "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 1)},
    }
    return RedisStore(url, options)


def _bucket(store: BaseStore, quota: Quota) -> Throttled:
    tokens = rate_limiter.per_min(quota.units, burst=quota.units)
    return Throttled(using=RateLimiterType.GCRA.value, quota=tokens, store=store, key_prefix="unlearn")
