"""The OpenAPI document is complete: whoever reads it can call every operation."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app
from core.platform.database import open_engine
from core.platform.objects import MemoryStore
from core.webhooks.catalogue import CATALOGUE
from tests.builders.web import settings

pytestmark = pytest.mark.contract

DOCUMENT: dict[str, Any] = create_app(
    settings(api={"public_url": "https://unlearn.example"}),
    open_engine("postgresql://nobody@127.0.0.1:1/none"),
    MemoryStore(),
).openapi()
METHODS = ("get", "put", "post", "patch", "delete")
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method.upper()} {path}")
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
]
JSON = "application/json"
PROBLEM = "application/problem+json"
OPENDSR = "/opendsr/"
TOKEN = "/oauth/token"

FLOW = DOCUMENT["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", []):  # an optional body
        if choice.get("type") != "null":
            return _resolved(choice)
    return schema


def _has_example(content: dict[str, Any]) -> bool:
    schema = _resolved(content["schema"])
    return any(key in content or key in schema for key in ("example", "examples"))


def _successes(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            yield status, response


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_says_what_it_does(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation.get("summary"), "no summary"
    assert len(operation.get("description", "")) >= 10, "no description"
    assert operation.get("tags"), "no tag"
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}, "the tag is not explained"


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_json_body_has_an_example(path: str, method: str, operation: dict[str, Any]) -> None:
    if "requestBody" in operation:
        for kind, content in operation["requestBody"]["content"].items():
            assert _has_example(content), f"no example of the request ({kind})"
    for status, response in _successes(operation):
        for kind, content in response.get("content", {}).items():
            if kind == JSON:
                assert _has_example(content), f"no example of the answer {status}"
        assert status == "204" or response.get("content") or response["description"] != "Successful Response"


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_lists_how_it_can_fail(path: str, method: str, operation: dict[str, Any]) -> None:
    if operation["tags"] == ["health"]:
        return
    listed = set(operation["responses"])
    if operation.get("security"):
        assert {"401", "429"} <= listed, "401 and 429 are missing"
        assert "Retry-After" in operation["responses"]["429"]["headers"]
        assert path == "/v1/whoami" or "403" in listed, "403 is missing"
    if "{" in path and not (method == "put" and path == "/v1/policies/{name}"):
        assert "404" in listed, "404 is missing"
    if JSON in operation.get("requestBody", {}).get("content", {}):
        wanted = {"400", "413", "415"} if path.startswith(OPENDSR) else {"400", "413", "415", "422"}
        assert wanted <= listed, f"{wanted - listed} are missing"
    parameters = [parameter["name"] for parameter in operation.get("parameters", [])]
    if "cursor" in parameters:
        assert {"400", "422"} <= listed, "400 and 422 are missing"
    if "Idempotency-Key" in parameters:
        assert {"400", "409", "422"} <= listed, "400, 409 and 422 are missing"
    for status, response in operation["responses"].items():
        if status.startswith(("4", "5")):
            standard = path.startswith(OPENDSR) or (path == TOKEN and status in ("400", "401"))
            kind = JSON if standard else PROBLEM  # standards have envelopes of their own
            assert list(response["content"]) == [kind], f"{status} is no {kind}"
            assert response["description"]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_only_what_must_be_open_asks_for_no_credential(path: str, method: str, operation: dict[str, Any]) -> None:
    free = path in ("/healthz", "/readyz", TOKEN) or path.startswith(
        ("/v1/storage/", "/.well-known/", "/opendsr/v2/discovery", "/opendsr/v2/certificate")
    )
    assert bool(operation.get("security")) is not free
    if not free:
        assert [next(iter(one)) for one in operation["security"]] == ["bearer", "apiKey", "basic", "oauth2"]
        scopes = operation["security"][-1]["oauth2"]
        assert len(scopes) == (0 if path == "/v1/whoami" else 1), "the scope is not named"
        assert set(scopes) <= set(FLOW["scopes"])


def test_it_is_openapi_3_1_with_server_and_schemes() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["servers"] == [{"url": "https://unlearn.example"}]
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {name: scheme["type"] for name, scheme in schemes.items()} == {
        "bearer": "http",
        "apiKey": "apiKey",
        "basic": "http",
        "oauth2": "oauth2",
    }
    assert FLOW["tokenUrl"] == "https://unlearn.example/oauth/token"


def test_every_event_is_in_the_webhooks_section_with_schema_and_example() -> None:
    assert set(DOCUMENT["webhooks"]) == {event.type for event in CATALOGUE}
    for name, item in DOCUMENT["webhooks"].items():
        content = item["post"]["requestBody"]["content"][JSON]
        assert content["example"]["type"] == name
        assert content["schema"]["properties"]["data"]["type"] == "object"
        assert {parameter["name"] for parameter in item["post"]["parameters"]} == {
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        }


def test_operation_ids_are_unique_and_every_reference_leads_somewhere() -> None:
    ids = [parameter.values[2]["operationId"] for parameter in OPERATIONS]
    assert len(set(ids)) == len(ids)
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in DOCUMENT["components"]["schemas"], name


def test_what_the_contract_promises_is_there() -> None:
    promised = {
        "/v1/whoami": "get",
        "/v1/datasets": "post",
        "/v1/datasets/{name}": "get",
        "/v1/datasets/{name}/records/{record_id}": "get",
        "/v1/uploads": "post",
        "/v1/uploads/{upload_id}/complete": "post",
        "/v1/models": "post",
        "/v1/models/{name}/versions": "post",
        "/v1/models/{name}/versions/{version}": "get",
        "/v1/models/{name}/aliases/{alias}": "put",
        "/v1/deletion-requests": "post",
        "/v1/deletion-requests/{request_id}": "get",
        "/v1/deletion-requests/{request_id}/cancel": "post",
        "/v1/deletion-requests/{request_id}/approve": "post",
        "/v1/deletion-requests/{request_id}/reject": "post",
        "/v1/deletion-requests/{request_id}/events": "get",
        "/v1/hardness-assessments": "post",
        "/v1/hardness-assessments/{assessment_id}": "get",
        "/v1/hardness-assessments/{assessment_id}/cancel": "post",
        "/v1/runs/{run_id}": "get",
        "/v1/runs/{run_id}/steps": "get",
        "/v1/runs/{run_id}/events": "get",
        "/v1/runs/{run_id}/plots/{plot}.svg": "get",
        "/v1/hardness-assessments/{assessment_id}/plots/layers.svg": "get",
        "/v1/runs/{run_id}/cancel": "post",
        "/v1/webhook-endpoints": "post",
        "/v1/webhook-endpoints/{endpoint_id}": "patch",
        "/v1/webhook-endpoints/{endpoint_id}/rotate-secret": "post",
        "/v1/webhook-endpoints/{endpoint_id}/test": "post",
        "/v1/webhook-endpoints/{endpoint_id}/deliveries": "get",
        "/v1/webhook-endpoints/{endpoint_id}/deliveries/{message_id}/retry": "post",
        "/v1/api-keys": "post",
        "/oauth/token": "post",
        "/.well-known/oauth-authorization-server": "get",
        "/v1/subjects/lookup": "post",
        "/v1/policies/{name}": "put",
        "/v1/audit-events": "get",
        "/healthz": "get",
        "/readyz": "get",
    }
    shapes = {_shape(path): item for path, item in DOCUMENT["paths"].items()}
    missing = [path for path, method in promised.items() if method not in shapes.get(_shape(path), {})]
    assert missing == []


def _shape(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
