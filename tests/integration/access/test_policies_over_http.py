"""Policies: every PUT is a new version; the built-in default is always there."""

import pytest
from sqlalchemy import Engine

from core.platform.database import transaction
from core.policies import service
from core.policies.body import Policy
from core.unlearning.job import METHODS
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration


@pytest.fixture
def caller(emptied: Engine) -> Web:
    return web(emptied).customer()


def test_the_default_is_built_in_and_can_be_replaced(caller: Web) -> None:
    built_in = caller.get("/v1/policies/default").json()
    assert (built_in["version"], built_in["created_at"]) == (0, None)
    assert built_in["parameters"]["method"] == "hamu-q"
    assert [row["name"] for row in caller.get("/v1/policies").json()["data"]] == ["default"]
    mine = caller.put("/v1/policies/default", {"retention_days": 7}).json()
    assert (mine["version"], mine["retention_days"]) == (1, 7)
    assert caller.get("/v1/policies/default").json() == mine
    assert [row["version"] for row in caller.get("/v1/policies").json()["data"]] == [1]


def test_each_put_is_a_version_of_its_own_from_the_defaults(caller: Web) -> None:
    first = caller.put("/v1/policies/strict", {"parameters": {"max_steps": 10, "quota_ratio": 0.25}}).json()
    second = caller.put("/v1/policies/strict", {"production_follows": True}).json()
    assert (first["version"], second["version"]) == (1, 2)
    assert first["parameters"]["max_steps"] == 10
    assert second["parameters"]["max_steps"] == 200  # a PUT replaces; what it leaves out is the default
    assert second["production_follows"] is True
    assert caller.get("/v1/policies/strict").json() == second


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_may_name_any_method(caller: Web, method: str) -> None:
    stored = caller.put("/v1/policies/compared", {"parameters": {"method": method}}).json()
    assert stored["parameters"]["method"] == method


def test_what_applies_to_a_model(caller: Web, emptied: Engine) -> None:
    caller.put("/v1/policies/strict", {"retention_days": 1, "needs_review_on": []})
    workspace_id = _workspace_id(emptied)
    with transaction(emptied) as tx:
        assert service.effective(tx, workspace_id, None) == ("default", Policy())
        name, policy = service.effective(tx, workspace_id, "strict")
        assert (name, policy.retention_days, policy.needs_review_on) == ("strict", 1, ())
        with pytest.raises(service.PolicyNotFound):
            service.effective(tx, workspace_id, "lenient")


def _workspace_id(emptied: Engine) -> str:
    from core.access.service import workspace_named

    with transaction(emptied) as tx:
        return workspace_named(tx, "acme").id


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"parameters": {"quota_ratio": 1.0}}, ["/parameters/quota_ratio"]),
        ({"parameters": {"method": "magic", "max_steps": 0}}, ["/parameters/method", "/parameters/max_steps"]),
        ({"parameters": {"no_such": 1}}, ["/parameters/no_such"]),
        ({"retention_days": -1}, ["/retention_days"]),
        ({"needs_review_on": ["target_reached"]}, ["/needs_review_on"]),
        ({"no_such": 1}, ["/no_such"]),
        ({"batch_window_s": "soon"}, ["/batch_window_s"]),
    ],
)
def test_what_is_wrong_is_pointed_at_and_nothing_is_stored(
    caller: Web, body: dict[str, object], pointers: list[str]
) -> None:
    answer = caller.put("/v1/policies/strict", body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    assert caller.get("/v1/policies/strict").status_code == 404


def test_names_are_plain_and_workspaces_apart(caller: Web, emptied: Engine) -> None:
    assert caller.put("/v1/policies/Not_Plain", {}).status_code == 422
    caller.put("/v1/policies/strict", {})
    rival = web(emptied).customer("rival")
    assert rival.get("/v1/policies/strict").status_code == 404
    assert rival.put("/v1/policies/strict", {}).json()["version"] == 1


def test_scopes(emptied: Engine) -> None:
    reader = web(emptied).customer(scopes=["policies:read"])
    assert reader.get("/v1/policies/default").status_code == 200
    assert reader.put("/v1/policies/strict", {}).status_code == 403
