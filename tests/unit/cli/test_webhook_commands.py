"""``unlearn webhooks``: what is sent, what is shown, and how it fails."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

Unlearn = Callable[..., Result]
Fake = Any
HOOKS = "/v1/webhook-endpoints"
ENDPOINT = {"id": "whe_1", "url": "https://a.example/", "events": [], "enabled": True, "disabled_reason": None}
WITH_SECRET = {**ENDPOINT, "algorithm": "hmac-sha256", "secret": "whsec_x", "public_key": None, "headers": {"X": "y"}}
ATTEMPT = {"at": "2031-03-01T11:12:41.020Z", "status_code": 500, "latency_ms": 84, "error": None, "response": "no"}
DELIVERY = {"message_id": "msg_1", "type": "ping", "status": "pending", "attempts": [ATTEMPT], "test": True}


def _ok(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_create_sends_what_was_given_and_shows_the_secret(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"POST {HOOKS}", _ok(WITH_SECRET, 201))
    result = unlearn(
        "webhooks", "create", "https://a.example/", "--event", "run.*", "--event", "ping", "--header", "X=y",
        "--metadata", "team=privacy", "--algorithm", "hmac-sha256", "--secret", "whsec_x",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "whsec_x" in result.stdout
    assert service.sent(f"POST {HOOKS}") == [
        {
            "url": "https://a.example/",
            "events": ["run.*", "ping"],
            "headers": {"X": "y"},
            "metadata": {"team": "privacy"},
            "algorithm": "hmac-sha256",
            "secret": "whsec_x",
        }
    ]


def test_list_and_show(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"GET {HOOKS}", _ok({"data": [ENDPOINT], "next_cursor": None, "has_more": False}))
    service.on(f"GET {HOOKS}/whe_1", _ok(ENDPOINT))
    service.on(f"GET {HOOKS}/whe_1/stats", _ok({"attempts": 4, "success_rate": 0.75}))
    assert json.loads(unlearn("webhooks", "list", "--json").stdout) == [ENDPOINT]
    shown = json.loads(unlearn("webhooks", "show", "whe_1", "--json").stdout)
    assert shown["last_day"] == {"attempts": 4, "success_rate": 0.75}


@pytest.mark.parametrize(("command", "enabled"), [("enable", True), ("disable", False)])
def test_enable_and_disable(service: Fake, unlearn: Unlearn, command: str, enabled: bool) -> None:
    service.on(f"PATCH {HOOKS}/whe_1", _ok(ENDPOINT))
    assert unlearn("webhooks", command, "whe_1").exit_code == 0
    assert service.sent(f"PATCH {HOOKS}/whe_1") == [{"enabled": enabled}]


def test_delete(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"DELETE {HOOKS}/whe_1", httpx.Response(204))
    assert unlearn("webhooks", "delete", "whe_1").exit_code == 0
    assert [request.method for request in service.seen] == ["DELETE"]


def test_rotate_and_secret(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"POST {HOOKS}/whe_1/rotate-secret", _ok(WITH_SECRET))
    service.on(f"GET {HOOKS}/whe_1/secret", _ok(WITH_SECRET))
    assert unlearn("webhooks", "rotate", "whe_1").exit_code == 0
    assert unlearn("webhooks", "rotate", "whe_1", "--grace-seconds", "0").exit_code == 0
    assert service.sent(f"POST {HOOKS}/whe_1/rotate-secret") == [{}, {"grace_seconds": 0}]
    read = json.loads(unlearn("webhooks", "secret", "whe_1", "--json").stdout)
    assert read == {"algorithm": "hmac-sha256", "secret": "whsec_x", "public_key": None, "headers": {"X": "y"}}


def test_a_test_that_was_not_delivered_fails_and_says_why(service: Fake, unlearn: Unlearn) -> None:
    delivered = {**DELIVERY, "status": "delivered", "attempts": [{**ATTEMPT, "status_code": 204}]}
    service.on(f"POST {HOOKS}/whe_1/test", _ok(delivered), _ok(DELIVERY), _ok({**DELIVERY, "attempts": []}, 202))
    assert unlearn("webhooks", "test", "whe_1", "--type", "run.failed").exit_code == 0
    assert service.sent(f"POST {HOOKS}/whe_1/test") == [{"type": "run.failed"}]
    failed = unlearn("webhooks", "test", "whe_1")
    assert failed.exit_code == 1
    assert "500 after 84 ms" in failed.stderr
    assert "no attempt has been made yet" in unlearn("webhooks", "test", "whe_1").stderr


def test_deliveries_are_filtered_and_one_is_sent_again(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"GET {HOOKS}/whe_1/deliveries", _ok({"data": [DELIVERY], "next_cursor": None, "has_more": False}))
    service.on(f"POST {HOOKS}/whe_1/deliveries/msg_1/retry", _ok(DELIVERY, 202))
    result = unlearn("webhooks", "deliveries", "whe_1", "--status", "pending", "--type", "run.*")
    assert dict(service.seen[0].url.params) == {"limit": "50", "status": "pending", "type": "run.*"}
    assert "500 after 84 ms" in result.stdout
    assert json.loads(unlearn("webhooks", "retry", "whe_1", "msg_1", "--json").stdout) == DELIVERY


def test_replay_sends_the_span(service: Fake, unlearn: Unlearn) -> None:
    service.on(f"POST {HOOKS}/whe_1/replay", _ok({"id": "rpl_1", "status": "running"}, 202))
    assert unlearn("webhooks", "replay", "whe_1", "--since", "2031-03-01T00:00:00Z").exit_code == 0
    span = ("--since", "2031-03-01T00:00:00Z", "--until", "2031-03-02T00:00:00Z")
    assert unlearn("webhooks", "replay", "whe_1", *span, "--all").exit_code == 0
    assert service.sent(f"POST {HOOKS}/whe_1/replay") == [
        {"since": "2031-03-01T00:00:00Z", "only_failed": True},
        {"since": "2031-03-01T00:00:00Z", "only_failed": False, "until": "2031-03-02T00:00:00Z"},
    ]


def test_events_and_types(service: Fake, unlearn: Unlearn) -> None:
    event = {"id": "msg_1", "type": "run.failed", "timestamp": "2031-03-01T11:12:41.020Z", "data": {"id": "run_1"}}
    service.on("GET /v1/events", _ok({"data": [event], "next_cursor": None, "has_more": False}))
    service.on("GET /v1/event-types", _ok({"data": [{"type": "run.failed", "summary": "A run failed"}]}))
    assert json.loads(unlearn("webhooks", "events", "--type", "run.*", "--json").stdout) == [event]
    assert dict(service.seen[0].url.params) == {"limit": "50", "type": "run.*"}
    assert "A run failed" in unlearn("webhooks", "types").stdout
