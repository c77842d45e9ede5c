"""Whoever changes something over HTTP leaves an audit line, and in it nothing that a person wrote."""

import pytest
from sqlalchemy import Engine

from core.access import audit
from core.platform.database import transaction
from tests.builders.opendsr import ADA
from tests.builders.tour import COMMENT, tour

pytestmark = pytest.mark.integration

CHANGING = {"post", "put", "patch", "delete"}
CHANGES_NOTHING = {("POST", "/oauth/token"), ("POST", "/v1/subjects/lookup"), ("POST", "/v1/test/clock/advance")}
"""A token is kept nowhere, who is looked up must not stand in an address, and a sandbox's clock is nobody's record."""
WITHOUT_A_CALLER = {("PUT", "/v1/storage/{token}")}
"""A signed link, which the announcement of the upload gave out; what it brought is noted when that is completed."""


def test_every_route_that_changes_something_leaves_an_audit_line(emptied: Engine) -> None:
    made = tour(emptied)
    routes = {
        (method.upper(), path)
        for path, methods in made.scene.anyone.app.openapi()["paths"].items()
        for method in CHANGING & set(methods)
    }
    assert {(call.method, call.template) for call in made.calls} == routes - WITHOUT_A_CALLER - CHANGES_NOTHING
    key_id = made.scene.caller.get("/v1/whoami").json()["key_id"]
    silent = [(call.method, call.template) for call in made.calls if key_id not in {line[0] for line in call.lines}]
    assert silent == []
    said = "\n".join(line for call in made.calls for _, _, line in call.lines)
    assert not [word for word in (COMMENT, ADA, "r-1", "writer-") if word in said]
    with transaction(emptied) as tx:
        assert audit.first_broken_line(tx, made.scene.built.workspace_id) is None
