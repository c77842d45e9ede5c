"""The OpenAPI 3.1 document: FastAPI's, with servers, tags and the webhooks section."""

import functools
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from api import retiring, security
from api.errors import MEDIA_TYPE as PROBLEM
from api.errors import meaning
from api.links import link_in
from api.opendsr.frame import JSON
from api.opendsr.paths import ROOT
from api.schemas.opendsr import OpenDsrErrorOut
from core.webhooks.catalogue import CATALOGUE, EventType

TAGS: Final[Mapping[str, str]] = {
    "deletion requests": "Ask that records or people be unlearned, and follow what becomes of it.",
    "subjects": "Ask beforehand whether there is anything about a person.",
    "hardness assessments": "Ask beforehand how hard unlearning would be, and what it would take.",
    "runs": "Executions of unlearning: progress, step ledger, hardness, metrics.",
    "certificates": "Signed evidence of every run that has ended, and the keys to verify it with.",
    "models": "Models, their immutable versions and the aliases that point at versions.",
    "data sets": "Training records of models.",
    "uploads": "Ways to bring files in.",
    "storage": "Links to files, where objects are kept in a directory.",
    "OpenDSR": "Data subject requests of privacy platforms, after OpenDSR 2.0.",
    "policies": "How deletions are carried out.",
    "reports": "How deadlines are kept, and what is left of what was erased.",
    "legal holds": "What must not be erased for now.",
    "webhooks": "Where to tell what has happened, what was told, and the events themselves to be fetched.",
    "access": "API keys, and access tokens in place of them.",
    "audit": "Who did what.",
    "test mode": "What only test keys may do, in a sandbox of their own.",
    "health": "Whether the service works.",
}

_DESCRIPTION: Final = """
Deletion requests in, verifiably unlearned model versions out.

* **Credentials**: an API key as `Authorization: Bearer`, as `X-API-Key`, or by Basic with the key id as user; or an
  access token that `POST /oauth/token` gives for a key.
* **Errors** are `application/problem+json` (RFC 9457); every `type` is a page under [/problems](/problems).
* **Repeating**: creating POSTs take an `Idempotency-Key`; the first answer is kept for 24 hours.
* **Lists** answer `{"data", "next_cursor", "has_more"}` and a `Link` header; `?limit=` is 1 to 200.
* **Long work** answers 202 with `Location` and `Retry-After`; poll with `If-None-Match`, or send `Prefer: wait=30`.
* **Limits** are counted by key and minute; `RateLimit-Policy` and `RateLimit` tell them, 429 says `Retry-After`.
* **Changes** within `/v1` only add. What will be removed says so in `Deprecation` and `Sunset` headers before.
* **Test mode**: keys `unl_test_…` act in a sandbox of their own, where everything ends within seconds.
* Every answer has an `X-Request-Id`; yours is taken if it is 8 to 128 letters, digits, `.`, `_` or `-`.
"""


def install(app: FastAPI) -> None:
    """Let ``app.openapi()`` give the document; it is made once."""
    app.openapi = functools.cache(lambda: document(app))  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    """The document of everything that ``app`` serves."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary="Machine unlearning as a service.",
        description=_DESCRIPTION.strip(),
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[{"url": app.state.base_url}],
    )
    made["webhooks"] = {event.type: _webhook(event) for event in CATALOGUE}
    routes = [found.route for found in iter_route_contexts(app.routes)]
    security.note_in(made, routes)
    flows = made["components"]["securitySchemes"]["oauth2"]["flows"]
    flows["clientCredentials"]["tokenUrl"] = f"{app.state.base_url}/oauth/token"
    retiring.note_in(made["paths"], routes)
    _limit(made["paths"])
    _refuse_unreadable(made["paths"])
    _only_problem_documents(made)
    _list_examples(made["components"]["schemas"])
    link_in(made)
    return made


def _webhook(event: EventType) -> dict[str, Any]:
    body = {"schema": event.message_schema(), "example": event.message_example()}
    return {
        "post": {
            "operationId": f"webhook_{event.type.replace('.', '_')}",
            "summary": event.summary,
            "description": event.description,
            "tags": ["webhooks"],
            "parameters": [
                _header("webhook-id", "id of the message, the same on every retry"),
                _header("webhook-timestamp", "Unix seconds of this attempt"),
                _header("webhook-signature", _SIGNATURE),
            ],
            "requestBody": {"required": True, "content": {"application/json": body}},
            "responses": {
                "2XX": {"description": "Taken. Anything else is tried again by schedule; 410 disables the endpoint."}
            },
        }
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": description, "schema": {"type": "string"}}


def _limit(paths: dict[str, Any]) -> None:
    """Whatever asks for a credential counts calls."""
    for path, item in paths.items():
        for operation in item.values():
            if operation.get("security"):
                operation["responses"]["429"] = {**_failure(path, 429), "headers": _LIMITED}


def _refuse_unreadable(paths: dict[str, Any]) -> None:
    """Every address can hold a character that is not allowed."""
    for path, item in paths.items():
        for operation in item.values():
            operation["responses"].setdefault("400", _failure(path, 400))


def _failure(path: str, status: int) -> dict[str, Any]:
    name, kind = (OpenDsrErrorOut.__name__, JSON) if path.startswith(ROOT) else ("ProblemOut", PROBLEM)
    content = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"description": meaning(status), "content": content}


_LIMITED: Final[Mapping[str, Any]] = {
    name: {"description": description, "schema": {"type": kind}}
    for name, kind, description in (
        ("Retry-After", "integer", "seconds until it is worth trying again"),
        ("RateLimit-Policy", "string", "name of the limit, calls (`q`) and seconds (`w`), as on every other answer"),
        ("RateLimit", "string", "calls left (`r`) and seconds until there are more (`t`), as on every other answer"),
    )
}


def _only_problem_documents(made: dict[str, Any]) -> None:
    """Errors are problem documents only: FastAPI also lists the model as plain JSON, and its own validation error."""
    for path in made["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if PROBLEM in content:
                    content.pop("application/json", None)
                elif status == "422":
                    operation["responses"][status] = _INVALID
    for unused in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(unused, None)


_SIGNATURE: Final = (
    "`v1,` and the base64 HMAC-SHA-256 of `<id>.<timestamp>.<body>`, or `v1a,` and the base64 Ed25519 signature of it; "
    "several, separated by spaces, while a secret is being rotated"
)
_INVALID: Final[Mapping[str, Any]] = {
    "description": meaning(422),
    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
}


def _list_examples(schemas: dict[str, Any]) -> None:
    """The example of a list is made of its items'."""
    for schema in schemas.values():
        items = schema.get("properties", {}).get("data", {}).get("items", {}).get("$ref", "")
        examples = schemas.get(items.rpartition("/")[2], {}).get("examples")
        if examples and not schema.get("examples"):
            rest = {"next_cursor": None, "has_more": False} if "next_cursor" in schema["properties"] else {}
            schema["examples"] = [{"data": examples[:1], **rest}]
