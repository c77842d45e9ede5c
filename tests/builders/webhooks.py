"""A workspace with webhook endpoints, events that happen in it, a clock, and a sender on both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, text

from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.outbox import mark_sent, put_event, take_unsent
from core.platform.settings import Settings
from core.webhooks.catalogue import event_type
from core.webhooks.messages import fan_out
from core.webhooks.sending import Answer
from tests.builders.web import Clock, Web, keyring, settings, web
from worker.loops import replayer
from worker.loops.webhook_sender import WebhookSender, send_due

HOOKS = "/v1/webhook-endpoints"
LOCAL = {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "jitter": 0}

_apps: dict[Engine, tuple[Web, Clock]] = {}
"""An application is costly to make, and the same for all tests on one database."""


def data_of(name: str, **changes: Any) -> dict[str, Any]:
    """``data`` of an event as the catalogue has it."""
    kind = event_type(name)
    assert kind is not None
    return {**kind.example, **changes}


def _app(engine: Engine) -> tuple[Web, Clock]:
    if engine not in _apps:
        clock = Clock()
        _apps[engine] = (web(engine, clock, webhooks=LOCAL), clock)
    return _apps[engine]


class Scene:
    """Call ``happens``, then ``send``; ``after`` moves the clock."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings: Settings = settings(webhooks=LOCAL)
        self.anyone, self.clock = _app(engine)
        self.clock.now = utc_now()
        self.caller: Web = self.anyone.customer()
        with engine.connect() as connection:
            self.workspace_id = connection.execute(text("select id from workspaces")).scalar_one()

    def register(self, url: str, *events: str, **fields: Any) -> dict[str, Any]:
        answer = self.caller.post(HOOKS, {"url": url, "events": list(events), **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def happens(self, name: str = "run.failed", **data: Any) -> None:
        self.happen([(name, data)])

    def happen(self, events: list[tuple[str, Mapping[str, Any]]]) -> None:
        """Several at once, in order."""
        with transaction(self.engine) as tx:
            for name, data in events:
                told = data_of(name, **data)
                put_event(tx, workspace_id=self.workspace_id, type=name, data=told, at=self.clock.now)
                tx.flush()
        self.relay()

    def relay(self) -> None:
        """Turns outbox rows into deliveries that are due at once, whatever the test's clock says."""
        with transaction(self.engine) as tx:
            for message in take_unsent(tx, topic="event", limit=1000):
                fan_out(tx, message)
                mark_sent(tx, [message.id])
            due = "update webhook_deliveries set next_attempt_at = :at where attempts = 0 and status = 'pending'"
            tx.execute(text(due), {"at": self.clock.now})

    def sender(self, http: Any = None) -> WebhookSender:
        return WebhookSender(self.engine, self.settings, keyring(), http, self.clock)

    def send(self, http: Any = None) -> int:
        return send_due(self.engine, self.settings, keyring(), http, self.clock)

    def replay(self) -> None:
        """Carries replays on until there is nothing to do."""
        while replayer.turn(self.engine, self.clock):
            pass

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        return self.caller.get(f"{HOOKS}/{endpoint_id}").json()

    def deliveries(self, endpoint_id: str) -> list[dict[str, Any]]:
        return self.caller.get(f"{HOOKS}/{endpoint_id}/deliveries").json()["data"]

    def after(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)

    def sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)


@dataclass
class Network:
    """Answers by URL as it is told (a status, or an answer), 204 otherwise, and notes what was sent, in order."""

    answers: dict[str, int | Answer | Callable[[dict[str, Any]], int]] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, url: str, _headers: Mapping[str, str], body: bytes) -> Answer:
        message = json.loads(body)
        self.sent.append((url, message))
        found = self.answers.get(url, 204)
        if isinstance(found, Answer):
            return found
        return Answer(found(message) if callable(found) else found, None, 1)

    def told(self, url: str) -> list[dict[str, Any]]:
        """The messages that went to an address."""
        return [message for to, message in self.sent if to == url]
