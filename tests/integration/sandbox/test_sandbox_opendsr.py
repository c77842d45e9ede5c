"""OpenDSR with test keys: the same addresses and answers, and no live data."""

import hashlib
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.builders.opendsr import BASE, erasure
from tests.builders.sandbox import Sandbox, site_on
from tests.builders.web import DOMAIN

pytestmark = pytest.mark.integration


@pytest.fixture
def box(emptied: Engine) -> Sandbox:
    return Sandbox(site_on(emptied))


def _ask(box: Sandbox, value: str, form: str = "raw", **changes: Any) -> str:
    identity = {"identity_type": "email", "identity_value": value, "identity_format": form}
    answer = box.caller.post(f"{BASE}/requests", erasure(subject_identities=[identity], **changes))
    assert answer.status_code == 201, answer.text
    assert answer.headers["x-unlearn-mode"] == "test"
    return answer.json()["subject_request_id"]


def _status(box: Sandbox, request_id: str) -> tuple[str, str, int | None]:
    seen = box.caller.get(f"{BASE}/requests/{request_id}").json()
    ours = seen["extensions"][DOMAIN]
    assert ours["test"] is True
    return seen["request_status"], ours["state"], seen["results_count"]


def test_requests_end_as_their_identities_say(box: Sandbox) -> None:
    fail = hashlib.sha256(b"fail@example.com").hexdigest()
    asked = {
        "ana": _ask(box, "ana@example.org"),
        "fail": _ask(box, "fail@example.org"),
        "hashed": _ask(box, fail, "sha256"),
        "slow": _ask(box, "slow@example.org"),
        "notfound": _ask(box, "notfound@example.org"),
        "review": _ask(box, "review@example.org"),
    }
    assert {_status(box, one)[:2] for one in asked.values()} == {("pending", "held")}
    box.settle()
    box.settle()
    assert {name: _status(box, one) for name, one in asked.items()} == {
        "ana": ("completed", "done", 1),
        "fail": ("in_progress", "needs_attention", None),
        "hashed": ("in_progress", "needs_attention", None),
        "slow": ("in_progress", "running", None),
        "notfound": ("completed", "done", 0),
        "review": ("in_progress", "needs_attention", None),
    }


def test_a_request_is_pending_until_its_hold_is_over_and_can_be_cancelled(box: Sandbox) -> None:
    held = {"extensions": {DOMAIN: {"hold_seconds": 3600}}}
    kept, withdrawn = _ask(box, "ana@example.org", **held), _ask(box, "bo@example.org", **held)
    box.advance(3500)
    box.turn()
    assert _status(box, kept)[0] == "pending"
    assert box.caller.delete(f"{BASE}/requests/{withdrawn}").status_code == 202
    box.advance(100)
    box.turn()
    assert (_status(box, kept)[0], _status(box, withdrawn)[0]) == ("in_progress", "cancelled")


def test_holds_that_nobody_asked_for_are_short(box: Sandbox) -> None:
    ours = box.caller.get(f"{BASE}/requests/{_ask(box, 'ana@example.org')}").json()["extensions"][DOMAIN]
    native = box.read(ours["request_id"])
    held = datetime.fromisoformat(native["hold_until"]) - datetime.fromisoformat(native["created_at"])
    assert held.total_seconds() == 5


def test_live_keys_do_not_see_them(box: Sandbox) -> None:
    request_id = _ask(box, "ana@example.org")
    live = site_on(box.engine).customer("acme")
    assert live.get(f"{BASE}/requests/{request_id}").status_code == 404
    mine = live.post(f"{BASE}/requests", erasure(request_id))
    assert mine.status_code == 201, "an id of a sandbox is free for live requests"
    assert "x-unlearn-mode" not in mine.headers
    ours = live.get(f"{BASE}/requests/{request_id}").json()["extensions"][DOMAIN]
    assert "test" not in ours
