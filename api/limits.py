"""Rate limits: which quota a call uses up, and the headers that tell callers where they stand.

A key's calls are counted once its credential has been checked, so that nobody can use up another's quota. What needs no
credential (health, metrics, documents, discovery, public keys) is not counted.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import Scope

from api.errors import TooManyRequests
from api.metrics import LimitMetrics
from api.opendsr.paths import place_of
from core.access.service import Unauthenticated
from core.platform.limits import WINDOW_S, Limiter, Quota, Standing
from core.platform.settings import LimitSettings

_STANDING: Final = "rate_limit"
_READING: Final = ("GET", "HEAD", "OPTIONS")


class RateLimits:
    """The quotas of one web application and where callers stand with them."""

    def __init__(self, settings: LimitSettings, limiter: Limiter, metrics: LimitMetrics) -> None:
        """Counts refusals in ``metrics``."""
        self._limiter = limiter
        self._metrics = metrics
        self._quotas: Mapping[str, Quota] = {
            name: Quota(name.removesuffix("s"), units) for name, units in settings.model_dump(exclude={"url"}).items()
        }

    def spend(self, scope: Scope, key_id: str) -> None:
        """Count this call of the key. Raises ``TooManyRequests``. Blocks for a round trip: call it in a thread."""
        self._take(scope, self._quotas[_kind_of(scope)], key_id)

    def refused(self, scope: Scope, error: Unauthenticated) -> Exception:
        """What to answer to a credential that is not valid: ``error``, or ``TooManyRequests`` after too many."""
        host, _ = scope.get("client") or ("unknown", 0)
        try:
            self._take(scope, self._quotas["failures"], host)
        except TooManyRequests as enough:
            return enough
        return error

    def _take(self, scope: Scope, quota: Quota, who: str) -> None:
        standing = self._limiter.take(quota, who) if quota.units else None
        if standing is None:
            return
        scope["state"][_STANDING] = standing
        if not standing.allowed:
            self._metrics.refuse(quota.name)
            raise TooManyRequests.until(standing.reset_s)


def tell_standing(scope: Scope, headers: MutableHeaders) -> None:
    """Say where the caller stands, in the structured fields of the IETF's draft and in the older headers."""
    standing = scope["state"].get(_STANDING)
    if standing is not None:
        headers.update(_headers(standing, time.time()))


def _headers(standing: Standing, now: float) -> dict[str, str]:
    quota = standing.quota
    return {
        "RateLimit-Policy": f'"{quota.name}";q={quota.units};w={WINDOW_S}',
        "RateLimit": f'"{quota.name}";r={standing.remaining};t={standing.reset_s}',
        "X-RateLimit-Limit": str(quota.units),
        "X-RateLimit-Remaining": str(standing.remaining),
        "X-RateLimit-Reset": str(int(now) + standing.reset_s),
    }


def _kind_of(scope: Scope) -> str:
    if place_of(scope["path"]) is not None:
        return "opendsr"
    if scope["method"] not in _READING:
        return "writes"
    return "polls" if _is_polled(scope.get("route")) else "reads"


def _is_polled(route: Any) -> bool:
    """Whether the route gives one object's state, again and again: those can answer that nothing has changed."""
    return 304 in getattr(route, "responses", ())
