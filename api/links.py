"""Links of the OpenAPI document: how an answer leads on to the calls about the object that it names."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_PARAMETERS: Final = "{"
_REFERENCE: Final = "#/components/schemas/"
_NAMED_WITHIN: Final[Mapping[str, Mapping[str, str]]] = {
    "/v1/deletion-requests/{request_id}": {"run_id": "/run_ids/0", "certificate_id": "/certificate_ids/0"},
}
"""Objects of another kind that an answer names, and where: parameter of their paths → JSON Pointer."""


def link_in(document: dict[str, Any]) -> None:
    """Add ``links`` to the answers that lead on.

    Whatever creates an object (POST to its list) leads to every call at or below the object's own path that needs no
    other name. The object's name in the answer is the property called like the path's parameter, or else ``id``.
    """
    paths, schemas = document["paths"], document["components"]["schemas"]
    for path, item in paths.items():
        if "post" in item:
            _link(item["post"], list(_below(paths, path)), schemas)
    for path, named in _NAMED_WITHIN.items():
        for parameter, place in named.items():
            links = {
                operation["operationId"]: _to(operation, {parameter: f"$response.body#{place}"})
                for other, operation in _reads(paths)
                if _names(other) == [parameter]
            }
            paths[path]["get"]["responses"]["200"].setdefault("links", {}).update(links)


def _below(paths: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Operations at or below an item of the list ``path``, each with the parameter that names the item."""
    for other, item in paths.items():
        own = _names(other)[len(_names(path)) :]
        if other.startswith(f"{path}/{_PARAMETERS}") and len(own) == 1:
            for operation in item.values():
                yield own[0], operation


def _reads(paths: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, item in paths.items():
        if "get" in item:
            yield path, item["get"]


def _link(creates: Any, leads_to: list[tuple[str, Any]], schemas: Mapping[str, Any]) -> None:
    outer = {
        one["name"]: f"$request.path.{one['name']}" for one in creates.get("parameters", []) if one["in"] == "path"
    }
    for status, answer in creates["responses"].items():
        properties = _properties(answer, schemas)
        if not status.startswith("2") or not leads_to or not properties:
            continue
        answer["links"] = {
            operation["operationId"]: _to(operation, {**outer, parameter: f"$response.body#/{name}"})
            for parameter, operation in leads_to
            if (name := parameter if parameter in properties else "id") in properties
        }


def _properties(answer: Any, schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return schemas.get(reference.removeprefix(_REFERENCE), {}).get("properties", {})


def _to(operation: Any, parameters: Mapping[str, str]) -> dict[str, Any]:
    return {
        "operationId": operation["operationId"],
        "description": operation["summary"],
        "parameters": dict(parameters),
    }


def _names(path: str) -> list[str]:
    return [part.partition("}")[0] for part in path.split(_PARAMETERS)[1:]]
