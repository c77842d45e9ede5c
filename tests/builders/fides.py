"""What Fides does with a SaaS connector that polls, as far as our connector uses it.

Written from Fides' documentation of SaaS connectors and from what version 2.78 does: placeholders, the bearer
strategy, the correlation id by its dot path, polling until a value is equal, which errors end a task, which are tried
again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

Call = Callable[..., httpx.Response]
RETRIED = frozenset({429, 502, 503, 504})
RETRIES = 3
_PLACEHOLDER = re.compile(r"<([^<>]+)>")
_KNOWN_KEYS = frozenset({
    "method", "path", "headers", "query_params", "body", "param_values", "ignore_errors", "correlation_id_path",
    "async_config", "status_path", "status_completed_value",
})  # fmt: skip


class TaskFailed(Exception):
    """The task ends in error."""


@dataclass
class Task:
    """The erasure task of one privacy request. ``values``: what placeholders stand for."""

    values: dict[str, str]
    state: Literal["polling", "complete"] = "complete"
    rows_masked: int = 0


@dataclass
class Connector:
    """A connector as it is configured, its secrets, and how to make a call: ``call(method, path, **parts)``."""

    config: Mapping[str, Any]
    secrets: Mapping[str, str]
    call: Call
    slept: list[float] = field(default_factory=list)

    def test(self) -> bool:
        """The button that tests the connection."""
        return self._send(self.config["test_request"], dict(self.secrets), ()).is_success

    def erase(self, privacy_request_id: str, identities: Mapping[str, str]) -> Task:
        """Start the erasure. Raises ``TaskFailed``."""
        request = self._delete()
        values = {"privacy_request_id": privacy_request_id}
        for one in request["param_values"]:
            if one["identity"] in identities:
                values[one["name"]] = identities[one["identity"]]
        answer = self._send(request, values, request["ignore_errors"])
        if not answer.is_success:  # one of the ignored errors: nothing is left to wait for
            return Task(values)
        correlation_id = _get(answer.json(), request["correlation_id_path"])
        if not correlation_id:
            raise TaskFailed("there is no correlation id")
        return Task({**values, "correlation_id": str(correlation_id)}, "polling")

    def poll(self, task: Task) -> None:
        """One turn of the hourly poll. Raises ``TaskFailed``."""
        status = self._delete()["async_config"]["configuration"]["status_request"]
        answer = self._send(status, task.values, ())
        is_json = "application/json" in answer.headers["content-type"].lower()
        if is_json and _get(answer.json(), status["status_path"]) == status["status_completed_value"]:
            task.state, task.rows_masked = "complete", 1

    def _delete(self) -> Mapping[str, Any]:
        (endpoint,) = self.config["endpoints"]
        request = endpoint["requests"]["delete"]
        assert request["async_config"]["strategy"] == "polling"
        return request

    def _send(self, request: Mapping[str, Any], values: Mapping[str, str], ignored: Any) -> httpx.Response:
        assert request.keys() <= _KNOWN_KEYS, request.keys() - _KNOWN_KEYS
        parts: dict[str, Any] = {"headers": {**_named(request.get("headers", ()), values), **self._credential()}}
        parts["params"] = _named(request.get("query_params", ()), values)
        if "body" in request:
            body = fill(request["body"], values)
            if body is None:
                raise TaskFailed("a placeholder of the body has no value")
            parts["content"] = body.encode()
            parts["headers"].setdefault("Content-Type", "application/json")
        path = fill(request["path"], values)
        assert path is not None
        answer = self._tried(request["method"], path, parts)
        if answer.status_code >= 400 and answer.status_code not in ignored:
            raise TaskFailed(f"status {answer.status_code}")
        return answer

    def _tried(self, method: str, path: str, parts: dict[str, Any]) -> httpx.Response:
        for attempt in range(RETRIES + 1):
            answer = self.call(method, path, **parts)
            if answer.status_code not in RETRIED or attempt == RETRIES:
                break
            self.slept.append(min(float(answer.headers.get("retry-after", 2 ** (attempt + 1))), 300.0))
        return answer

    def _credential(self) -> dict[str, str]:
        authentication = self.config["client_config"]["authentication"]
        assert authentication["strategy"] == "bearer"
        return {"Authorization": f"Bearer {fill(authentication['configuration']['token'], self.secrets)}"}


def fill(template: str, values: Mapping[str, str]) -> str | None:
    """The template with its placeholders replaced; None when one has no value."""
    for name in _PLACEHOLDER.findall(template):
        if name not in values:
            return None
        template = template.replace(f"<{name}>", values[name])
    return template


def _named(pairs: Any, values: Mapping[str, str]) -> dict[str, str]:
    filled = {pair["name"]: fill(pair["value"], values) for pair in pairs}
    return {name: value for name, value in filled.items() if value is not None}


def _get(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document
