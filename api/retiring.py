"""Routes that are on their way out say so in every answer, long before they are removed.

@router.get("/v1/old", summary="…")
@retiring(since=datetime(2031, 3, 1, tzinfo=UTC), sunset=datetime(2031, 9, 1, tzinfo=UTC), page="/docs/…")
def old() -> …
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.types import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_MARK: Final = "__retirement__"


@dataclass(frozen=True, slots=True)
class Retirement:
    """Deprecated ``since`` then, gone at ``sunset`` if that is known; ``page`` says what to do instead."""

    since: datetime
    sunset: datetime | None
    page: str

    def tell(self, headers: MutableHeaders) -> None:
        """Add ``Deprecation`` (RFC 9745), ``Sunset`` (RFC 8594) and links to the page."""
        headers["Deprecation"] = f"@{int(self.since.timestamp())}"
        headers.append("Link", f'<{self.page}>; rel="deprecation"; type="text/html"')
        if self.sunset is not None:
            headers["Sunset"] = format_datetime(self.sunset.astimezone(UTC), usegmt=True)
            headers.append("Link", f'<{self.page}>; rel="sunset"; type="text/html"')

    def sentence(self) -> str:
        """For the OpenAPI document."""
        gone = f", gone after {self.sunset.date()}" if self.sunset else ""
        return f"**Deprecated** since {self.since.date()}{gone}: see <{self.page}>."


def retiring(*, since: datetime, page: str, sunset: datetime | None = None) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint. Raises ``ValueError`` for a sunset before the deprecation, which RFC 9745 forbids."""
    if sunset is not None and sunset < since:
        raise ValueError("a route cannot be gone before it is deprecated")

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, Retirement(since, sunset, page))
        return endpoint

    return mark


def retirement_of(route: Any) -> Retirement | None:
    """What the route's endpoint is marked with."""
    return getattr(getattr(route, "endpoint", None), _MARK, None)


def note_in(paths: dict[str, Any], routes: Iterable[Any]) -> None:
    """Write into the paths of an OpenAPI document which of the routes are deprecated."""
    for route in routes:
        retirement = retirement_of(route)
        if retirement is None:
            continue
        for method in route.methods:
            operation = paths[route.path_format][method.lower()]
            operation["deprecated"] = True
            operation["description"] = f"{operation.get('description', '')}\n\n{retirement.sentence()}".strip()


def tell_retirement(scope: Scope, headers: MutableHeaders) -> None:
    """Let every answer of a route that is marked say so, whatever the answer is."""
    retirement = retirement_of(scope.get("route"))
    if retirement is not None:
        retirement.tell(headers)
