"""What a scope grants."""

import pytest

from core.access.principal import SCOPES, MissingScope, Principal, check_scopes
from core.access.service import grant
from core.platform.errors import InvalidInput


def _principal(*scopes: str) -> Principal:
    return Principal("ws_1", "acme", "key_1", frozenset(scopes), "live")


@pytest.mark.parametrize(
    ("granted", "wanted", "may"),
    [
        ("runs:read", "runs:read", True),
        ("runs:*", "runs:read", True),
        ("runs:*", "runs:write", True),
        ("*", "audit:read", True),
        ("runs:read", "runs:write", False),
        ("runs:*", "models:read", False),
        ("runs:read", "runs:*", False),
        ("runs:*", "*", False),
    ],
)
def test_wildcards(granted: str, wanted: str, may: bool) -> None:
    assert _principal(granted).may(wanted) is may


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(MissingScope, match="runs:write"):
        _principal("runs:read").need("runs:write")


def test_every_scope_and_wildcard_can_be_granted_and_nothing_else() -> None:
    assert check_scopes([*SCOPES, "runs:*", "*", "*"]) == tuple(sorted({*SCOPES, "runs:*", "*"}))
    for wrong in (["runs"], ["runs:fly"], ["keys:read"], [""], ["* "], []):
        with pytest.raises(InvalidInput):
            check_scopes(wrong)


def test_nobody_grants_more_than_they_have() -> None:
    assert grant(caller=_principal("runs:*"), scopes=["runs:read", "runs:*"]) == ("runs:*", "runs:read")
    for wanted in ("*", "models:read"):
        with pytest.raises(MissingScope):
            grant(caller=_principal("runs:*"), scopes=[wanted])
