"""The whole OpenAPI document, called by schemathesis in process: every operation, every check, and along the links."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import schemathesis
from fastapi import FastAPI
from schemathesis.engine import events, from_schema
from sqlalchemy import Engine
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import create_app
from core.access.service import NewKey
from core.access.tables import Workspace
from core.platform.database import transaction
from core.platform.ids import new_id
from core.platform.objects import MemoryStore
from tests.builders.estate import Estate
from tests.builders.web import new_key, settings

CHECKS: Final[Mapping[str, Any]] = {
    "enabled": True,
    # What no schema can say is refused as well: names that nobody knows, cursors that were never given out, two fields
    # of which one is wanted, rules for addresses and versions. Left to catch: that a call is refused as such.
    "positive_data_acceptance": {"expected-statuses": ["2xx", "304", 400, 401, 403, 404, 409, 422, 429, 503]},
    # Needs a second customer; tests of each slice ask for the objects of another workspace.
    "object_level_authorization": {"enabled": False},
}
"""Every check there is, as far as it makes sense here."""

_EXCEPTIONS: Final = [
    # There is no broker: 503 is the answer that is documented.
    {"include-name": "GET /readyz", "checks": {"not_a_server_error": {"enabled": False}}},
    # `batch` could be a request's id, so the methods of those are known at this path too.
    {
        "include-name": "POST /v1/deletion-requests/batch",
        "checks": {"allow_header_conformance": {"enabled": False}},
    },
]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried."""

    examples: int
    """Generated calls of each operation, right and wrong ones; 0: only the document's own examples."""
    walks: int
    """Walks along the links."""
    steps: int = 6
    """Calls of one walk at most."""
    boundaries: bool = False
    """Also every boundary and every missing or unknown part of every parameter: thousands of calls."""
    seed: int | None = None
    """None: the same calls every time."""
    seconds: int | None = None


@dataclass
class Outcome:
    """What was tried and what came of it."""

    calls: Counter[str] = field(default_factory=Counter[str])
    """By kind of trial."""
    statuses: Counter[int] = field(default_factory=Counter[int])
    succeeded: set[str] = field(default_factory=set[str])
    """Operations that were answered with a success at least once."""
    findings: dict[str, str] = field(default_factory=dict[str, str])
    """Operation and check, and the first call that it failed on."""


def fuzz(engine: Engine, effort: Effort) -> Outcome:
    """Call everything as a customer who has every scope, and the objects that the document's examples name."""
    unlimited = dict.fromkeys(("reads", "writes", "polls", "opendsr", "failures"), 0)
    app = create_app(settings(limits=unlimited), engine, MemoryStore())
    outcome = Outcome()
    key = _customer(engine)
    schema = _schema(_sparing(app, key.key.id), key.secret, effort)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _add(outcome, event.recorder, event.phase.value)
        elif isinstance(event, events.NonFatalError):
            outcome.findings[f"{event.label} could not be tried"] = f"{type(event.value).__name__}: {event.value}"
    return outcome


def _sparing(app: FastAPI, key_id: str) -> ASGIApp:
    """``app``, but for the calls that would revoke their own key, of which the list of keys tells them."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        own = scope.get("method") == "DELETE" and scope["path"].endswith(key_id)
        await app({**scope, "path": "/v1/api-keys/key_none"} if own else scope, receive, send)

    return guarded


def _customer(engine: Engine) -> NewKey:
    """The key of a new customer with a data set and a model."""
    with transaction(engine) as tx:
        workspace = Workspace(id=new_id("ws"), name="acme")
        tx.add(workspace)
        tx.flush()
        owned = Estate(workspace.id)
        owned.add_dataset(tx, "digits", train=120, test=20)
        owned.add_model(tx, "digits-classifier", "digits", versions=3)
    return new_key(engine, "acme")


def _schema(app: ASGIApp, secret: str, effort: Effort) -> Any:
    generation = {"max-examples": effort.examples, "deterministic": effort.seed is None, "no-shrink": True}
    limits = {"seed": effort.seed, "max-time": effort.seconds}
    phases = {
        "coverage": {"enabled": effort.boundaries},
        "fuzzing": {"enabled": effort.examples > 0},
        "stateful": {
            "enabled": effort.walks > 0,
            "max-steps": effort.steps,
            "generation": {**generation, "max-examples": effort.walks},
        },
    }
    config = schemathesis.Config.from_dict(
        {
            "headers": {"Authorization": f"Bearer {secret}"},
            "checks": CHECKS,
            "generation": generation,
            "phases": phases,
            "operations": _EXCEPTIONS,
            "continue-on-failure": True,
            "request-timeout": 60,
            **{name: value for name, value in limits.items() if value is not None},
        }
    )
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


def _add(outcome: Outcome, recorder: Any, kind: str) -> None:
    for case_id, interaction in recorder.interactions.items():
        outcome.calls[kind] += 1
        if interaction.response is not None:
            status = interaction.response.status_code
            outcome.statuses[status] += 1
            if 200 <= status < 300:
                outcome.succeeded.add(recorder.cases[case_id].value.operation.label)
    for case_id, checks in recorder.checks.items():
        label = recorder.cases[case_id].value.operation.label
        _note(outcome, label, (check for check in checks if check.failure_info is not None))


def _note(outcome: Outcome, label: str, failed: Iterable[Any]) -> None:
    for check in failed:
        said = f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
        outcome.findings.setdefault(f"{label}: {check.name}", said)
