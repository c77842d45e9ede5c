"""What follows from the answer to an attempt."""

from datetime import UTC, datetime, timedelta

import pytest

from core.platform.settings import WebhookSettings
from core.webhooks.delivering import judge
from core.webhooks.sending import Answer

AT = datetime(2031, 3, 1, tzinfo=UTC)
SETTINGS = WebhookSettings()


def _pause(answer: Answer, attempt: int, chance: float = 0.5) -> float:
    verdict = judge(answer, attempt=attempt, at=AT, settings=SETTINGS, chance=lambda: chance)
    assert verdict.status == "pending"
    assert verdict.next_attempt_at is not None
    return (verdict.next_attempt_at - AT).total_seconds()


def _status(code: int, retry_after_s: int | None = None) -> Answer:
    return Answer(code, None, 1, retry_after_s)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(code: int) -> None:
    assert judge(_status(code), attempt=1, at=AT, settings=SETTINGS).status == "delivered"


@pytest.mark.parametrize("code", [100, 301, 302, 307, 308, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504])
def test_everything_else_is_tried_again(code: int) -> None:
    assert _pause(_status(code), 1) == 5


@pytest.mark.parametrize("error", ["timeout", "tls", "unreachable", "protocol"])
def test_so_is_no_answer_at_all(error: str) -> None:
    assert _pause(Answer(None, error, 1), 2) == 300


def test_the_schedule_is_ten_attempts_over_three_days() -> None:
    pauses = [_pause(_status(500), attempt) for attempt in range(1, 10)]
    assert pauses == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    last = judge(_status(500), attempt=10, at=AT, settings=SETTINGS)
    assert (last.status, last.next_attempt_at) == ("exhausted", None)


def test_jitter_spreads_by_a_fifth_either_way() -> None:
    assert _pause(_status(500), 2, chance=0.0) == pytest.approx(240)
    assert _pause(_status(500), 2, chance=0.999999) == pytest.approx(360, rel=1e-4)


def test_retry_after_is_respected_up_to_a_day_and_never_shortens() -> None:
    assert _pause(_status(503, 3600), 1) == 3600
    assert _pause(_status(503, 10**8), 1) == 86400
    assert _pause(_status(503, 1), 2) == 300


def test_410_gives_up_and_disables() -> None:
    verdict = judge(_status(410), attempt=1, at=AT, settings=SETTINGS)
    assert (verdict.status, verdict.disable) == ("discarded", True)
    assert not judge(_status(404), attempt=1, at=AT, settings=SETTINGS).disable


def test_an_overloaded_endpoint_is_slowed_down_as_a_whole() -> None:
    for code, slow in ((429, True), (502, True), (504, True), (500, False), (404, False)):
        assert (_paused_for(_status(code), attempt=1) is not None) is slow
    assert _paused_for(_status(503, 60), attempt=1) == 60


def test_the_pause_of_the_whole_endpoint_is_half_an_hour_at_most_unless_it_asks_for_more() -> None:
    assert _paused_for(_status(429), attempt=1) == 5
    assert _paused_for(_status(429), attempt=9) == 1800
    assert _paused_for(_status(429, 7200), attempt=9) == 7200
    assert _paused_for(_status(429, 10**8), attempt=1) == 86400
    assert _paused_for(_status(429), attempt=10) == 1800  # also when this message is given up


def _paused_for(answer: Answer, attempt: int) -> float | None:
    until = judge(answer, attempt=attempt, at=AT, settings=SETTINGS, chance=lambda: 0.5).paused_until
    return None if until is None else (until - AT).total_seconds()


def test_a_shorter_schedule_can_be_configured() -> None:
    quick = WebhookSettings(schedule_s=(0, 1), jitter=0)
    first = judge(_status(500), attempt=1, at=AT, settings=quick)
    assert first.next_attempt_at == AT + timedelta(seconds=1)
    assert judge(_status(500), attempt=2, at=AT, settings=quick).status == "exhausted"
