"""A service that lives in a dictionary, behind the command line's own HTTP client."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.main import app

Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeService:
    """Answers by method and path, in order; the last answer of a route stays. Keeps every request."""

    routes: dict[str, list[Answer]] = field(default_factory=dict[str, list[Answer]])
    seen: list[httpx.Request] = field(default_factory=list[httpx.Request])

    def on(self, route: str, *answers: Answer) -> None:
        """``on("GET /v1/x", …)``."""
        self.routes[route] = list(answers)

    def handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        answers = self.routes.get(f"{request.method} {request.url.path}")
        assert answers is not None, f"unexpected call {request.method} {request.url}"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(request) if callable(answer) else answer

    def sent(self, route: str) -> list[dict[str, Any]]:
        """The JSON bodies that were sent to a route."""
        method, path = route.split(" ")
        return [json.loads(r.content) for r in self.seen if (r.method, r.url.path) == (method, path)]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """The fake service; commands find it at http://service.test with a key."""
    fake = FakeService()
    transport = httpx.MockTransport(fake.handle)
    monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, transport=transport))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("UNLEARN_URL", "http://service.test")
    monkeypatch.setenv("UNLEARN_KEY", "unl_live_secret")
    return fake


@pytest.fixture
def unlearn(service: FakeService) -> Callable[..., Result]:
    """Run ``unlearn …`` in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), terminal_width=200)

    return run
