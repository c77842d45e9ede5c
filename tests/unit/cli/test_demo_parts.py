"""The demo's receiver, which must take signed deliveries and nothing else, and its data."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from cli.configuration import to_environment
from cli.demo.command import demo_settings
from cli.demo.receiver import Delivery, verify, verify_by_the_rules
from cli.demo.report import Shown, print_report
from cli.output import Failed, console

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()
BODY = json.dumps({"type": "deletion_request.completed", "data": {"id": "del_1"}})


def _delivery(at: datetime, *, body: str = BODY, sent_body: str = BODY, signature: str | None = None) -> Delivery:
    signed = Webhook(SECRET).sign("msg_1", at, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signed if signature is None else signature.replace("SIGNED", signed),
    }
    return Delivery(headers, sent_body.encode())


def _now() -> datetime:
    """Asked for in each test: a whole suite takes longer than a signature is good for."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize("signature", ["SIGNED", "v1,AAAA SIGNED", "v1a,xyz SIGNED v1,BBBB"])
def test_the_rules_agree_with_the_independent_package(signature: str) -> None:
    now = _now()
    delivery = _delivery(now, signature=signature)
    expected = json.loads(BODY)
    assert verify_by_the_rules(delivery, SECRET, now=now.timestamp()) == expected
    assert verify(delivery, SECRET) == (expected, "the independent package standardwebhooks")


@pytest.mark.parametrize(
    ("made", "secret"),
    [
        (lambda now: _delivery(now, sent_body=BODY.replace("del_1", "del_2")), SECRET),
        (lambda now: _delivery(now), OTHER),
        (lambda now: _delivery(now, signature=""), SECRET),
        (lambda now: _delivery(now, signature="v1,AAAA"), SECRET),
        (lambda _: Delivery({}, BODY.encode()), SECRET),
    ],
    ids=["altered body", "other secret", "no signature", "wrong signature", "no headers"],
)
def test_a_delivery_that_is_not_genuine_is_refused(made: Callable[[datetime], Delivery], secret: str) -> None:
    now = _now()
    delivery = made(now)
    with pytest.raises(Failed):
        verify_by_the_rules(delivery, secret, now=now.timestamp())
    with pytest.raises(Failed):
        verify(delivery, secret)


@pytest.mark.parametrize("off_s", [-301, 301])
def test_a_delivery_of_another_time_is_refused(off_s: int) -> None:
    now = _now()
    with pytest.raises(Failed, match="five minutes"):
        verify_by_the_rules(_delivery(now), SECRET, now=now.timestamp() + off_s)


def test_the_demo_never_looks_at_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNLEARN_DATABASE__URL", "postgresql://production/data")
    settings = demo_settings(tmp_path, 8123)
    assert settings.database.url is None
    assert settings.webhooks.allow_networks == ("127.0.0.0/8",)
    assert "UNLEARN_DATABASE__URL" not in to_environment(settings)


def _measured(loss: float, accuracy: float) -> dict[str, Any]:
    return {"loss": loss, "accuracy": accuracy}


def test_the_report_shows_what_changed() -> None:
    sets = {"retain": _measured(0.01, 1.0), "holdout": _measured(0.2, 0.95)}
    run = {
        "hardness": {"verdict": "hard", "kappa": 0.25, "kappa_1": -0.5, "kappa_2": 0.75, "cosine": 0.5},
        "metrics": {
            "before": {**sets, "forget": _measured(0.0123, 1.0), "membership_auc": 0.91},
            "after": {**sets, "forget": _measured(0.1987, 0.75), "membership_auc": None},
        },
        "forget_records": 24, "progress": {"step": 17}, "stop_reason": "target_reached",
        "base_version": 1, "published_version": 2, "verdict": "passed_with_warnings",
        "gates": [{"status": "passed"}, {"status": "undecided"}, {"status": "passed"}],
    }  # fmt: skip
    request = {"id": "del_1", "status": "completed"}
    with console.capture() as captured:
        print_report(Shown(request, run, {}, "the rules", 9.0, "http://h/docs"))
    text = captured.get()
    assert "passed_with_warnings, 2 of 3 gates passed, 1 undecided" in " ".join(text.split())
    for part in (
        "0.0123",
        "0.1987",
        "75.0%",
        "0.910",
        "hard",
        "kappa 0.25",
        "17",
        "target_reached",
        "1 → 2",
        "http://h/docs",
    ):
        assert part in text, f"{part} is missing from\n{text}"
