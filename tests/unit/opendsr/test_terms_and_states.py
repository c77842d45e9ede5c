"""Legal terms, promised times, states, and identities that meet whatever their form."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from core.datasets.identities import identity_digests
from core.deletions.lifecycle import Status as NativeStatus
from core.opendsr.lifecycle import FINAL, MOVES, IllegalMove, Status, advance
from core.opendsr.progress import Finer, Native, finer
from core.opendsr.terms import expected_completion, legal_term
from core.platform.secrets import Keyring

KEYS = Keyring(b"k" * 32)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("law", "submitted", "term"),
    [
        ("gdpr", "2031-03-01T09:30", "2031-04-01T09:30"),
        ("gdpr", "2031-01-31T00:00", "2031-02-28T00:00"),
        ("gdpr", "2032-01-31T00:00", "2032-02-29T00:00"),
        ("gdpr", "2031-12-15T00:00", "2032-01-15T00:00"),
        ("ccpa", "2031-03-01T00:00", "2031-04-15T00:00"),
        ("lgpd", "2031-03-01T00:00", "2031-03-16T00:00"),
    ],
)
def test_the_law_counts_from_the_submission(law: str, submitted: str, term: str) -> None:
    assert legal_term(law, at(submitted), {"lgpd": 15}) == at(term)


@pytest.mark.parametrize("law", ["gdpr", "ccpa"])
def test_at_the_calendars_end_there_is_no_term(law: str) -> None:
    assert legal_term(law, at("9999-12-31T00:00"), {}) is None


def test_the_promise_keeps_within_the_law_unless_that_is_past() -> None:
    received, days = at("2031-03-10T00:00"), timedelta(days=3)
    assert expected_completion(received=received, service_level=days, term=None) == received + days
    assert expected_completion(received=received, service_level=days, term=at("2031-04-01T00:00")) == received + days
    assert expected_completion(received=received, service_level=days, term=at("2031-03-11T00:00")) == at(
        "2031-03-11T00:00"
    )
    assert expected_completion(received=received, service_level=days, term=at("2001-01-01T00:00")) == received + days


@pytest.mark.parametrize("before", list(Status))
@pytest.mark.parametrize("after", list(Status))
def test_states_only_go_forward(before: Status, after: Status) -> None:
    order = [Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED]
    forward = (before, after) == (Status.PENDING, Status.CANCELLED) or (
        before in order and after in order and order.index(after) == order.index(before) + 1
    )
    if forward:
        assert advance(before, after) == after
    else:
        with pytest.raises(IllegalMove):
            advance(before, after)
    assert all(not MOVES[state] for state in FINAL)


def test_done_is_only_what_is_done_everywhere() -> None:
    done = Native("a", NativeStatus.COMPLETED, "done")
    running = Native("b", NativeStatus.IN_PROGRESS, "verifying")
    waiting = Native("c", NativeStatus.PENDING, "queued")
    failed = Native("d", NativeStatus.FAILED, "failed", "rejected")
    assert finer([done, done]) == Finer("done")
    assert finer([done, running]) == Finer("verifying")
    assert finer([done, waiting]) == Finer("queued")
    assert finer([running, failed]) == Finer("needs_attention", "rejected")
    assert finer([Native("e", NativeStatus.NEEDS_REVIEW, "x")]).reason == "waiting_for_review"
    assert finer([done, Native("f", NativeStatus.CANCELLED, "x")]).reason == "withdrawn_by_operator"


@pytest.mark.parametrize(
    ("kind", "indexed", "normal"),
    [
        ("email", " ADA@Example.org", "ada@example.org"),
        ("email", "JOSE\u0301@x.example", "jos\u00e9@x.example"),
        ("controller_customer_id", " C-1 ", " C-1 "),
    ],
)
def test_a_hash_finds_what_the_value_was_indexed_under(kind: str, indexed: str, normal: str) -> None:
    hashed = hashlib.sha256(normal.encode()).hexdigest()
    digest = identity_digests(KEYS, kind, indexed)
    assert identity_digests(KEYS, kind, hashed, hashed=True) == digest
    assert identity_digests(KEYS, kind, hashed.upper(), hashed=True) == digest
    assert identity_digests(KEYS, kind, hashed) != digest


def test_customer_ids_are_exact() -> None:
    digests = {identity_digests(KEYS, "controller_customer_id", text) for text in ("a", "A", " a", "a ")}
    assert len(digests) == 4
