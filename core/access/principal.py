"""Who is calling and what they may do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from core.platform.errors import DomainError, InvalidInput, Problem

Mode = Literal["live", "test"]

SCOPES: Final[Mapping[str, str]] = {
    "deletions:read": "read deletion requests and their evidence",
    "deletions:write": "submit, cancel and decide deletion requests",
    "subjects:lookup": "ask whether there are records about a person",
    "models:read": "read models and versions",
    "models:write": "register models and versions, move aliases",
    "datasets:read": "read data sets",
    "datasets:write": "register data sets, upload files",
    "runs:read": "read runs",
    "runs:write": "cancel runs, ask for hardness assessments",
    "webhooks:read": "read webhook endpoints and deliveries",
    "webhooks:write": "manage webhook endpoints",
    "policies:read": "read policies",
    "policies:write": "change policies",
    "holds:read": "read legal holds",
    "holds:write": "place and release legal holds",
    "audit:read": "read the audit log",
    "reports:read": "read reports",
    "keys:write": "manage API keys",
}
"""Every scope there is and what it opens; ``<area>:*`` and ``*`` stand for several."""

GRANTABLE = frozenset({"*", *SCOPES, *(f"{scope.partition(':')[0]}:*" for scope in SCOPES)})


class MissingScope(DomainError):
    """The key is valid but does not carry the scope that this call needs."""

    code = "missing_scope"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated key and the workspace it acts in."""

    workspace_id: str
    workspace: str
    key_id: str
    scopes: frozenset[str]
    mode: Mode

    def may(self, scope: str) -> bool:
        """Whether ``scope`` is granted, by itself or by a wildcard."""
        area = scope.partition(":")[0]
        return not self.scopes.isdisjoint((scope, f"{area}:*", "*"))

    def need(self, scope: str) -> None:
        """Raises ``MissingScope``, naming it, unless ``scope`` is granted."""
        if not self.may(scope):
            raise MissingScope(f"This key lacks the scope {scope}.")


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """``scopes`` without duplicates, sorted. Raises ``InvalidInput`` for one that does not exist, or for none."""
    given = list(scopes)
    problems = [
        Problem(f"/scopes/{index}", "unknown_scope", "There is no such scope.")
        for index, scope in enumerate(given)
        if scope not in GRANTABLE
    ]
    if problems:
        raise InvalidInput("Some scopes do not exist.", problems)
    if not given:
        raise InvalidInput("A key needs at least one scope.", [Problem("/scopes", "empty", "Name at least one scope.")])
    return tuple(sorted(set(given)))
