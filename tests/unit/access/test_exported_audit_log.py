"""Every way of tampering with an exported audit log is found, and the line is named."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.access.audit_export import GENESIS, BrokenLog, Head, claims, last_line, line_hash, line_of, said_by, verify
from core.certificates import audit_checkpoint, signing

KEY = signing.new_key()
OPENED = audit_checkpoint.opener({"keys": [signing.public(KEY)]})
ISSUER = "https://unlearn.example"


def _events(count: int, workspace_id: str = "ws_1") -> list[Any]:
    events: list[Any] = []
    previous = GENESIS
    for number in range(1, count + 1):
        event = SimpleNamespace(
            id=f"aud_{workspace_id}_{number}", workspace_id=workspace_id, sequence=number, actor="key_1",
            action="thing.done", object_id=f"o_{number}", details={"n": number, "share": 0.1, "wörds": [None, "x"]},
            at=datetime(2031, 3, 1, tzinfo=UTC) + timedelta(microseconds=number), previous_hash=previous,
        )  # fmt: skip
        event.hash = previous = line_hash(said_by(event), event.previous_hash)
        events.append(event)
    return events


def _log(events: list[Any], *, key: Any = KEY, kind: str = audit_checkpoint.TYPE) -> list[str]:
    last = events[-1]
    head = Head(last.workspace_id, last.sequence, last.hash.hex())
    token = signing.sign(claims(head, issuer=ISSUER, at="2031-03-01T00:00:00.000Z"), key, kind=kind)
    return [*(f"{line_of(event)}\n" for event in events), f"{last_line(token)}\n"]


LINES = _log(_events(6))
TEXT = "".join(LINES).encode()


def _lines(content: bytes) -> list[str]:
    """As a file opened with ``newline="\\n"`` gives them."""
    parts = content.decode(errors="surrogateescape").split("\n")
    return [*(f"{part}\n" for part in parts[:-1]), *([parts[-1]] if parts[-1] else [])]


def test_a_whole_log_holds() -> None:
    assert verify(LINES, OPENED, issuer=ISSUER) == Head("ws_1", 6, _events(6)[-1].hash.hex())
    assert verify(_log(_events(7)), OPENED, earlier=verify(LINES, OPENED)).sequence == 7


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found_in_its_line(place: int, flip: int) -> None:
    changed = TEXT[:place] + bytes([TEXT[place] ^ flip]) + TEXT[place + 1 :]
    with pytest.raises(BrokenLog) as broken:
        verify(_lines(changed), OPENED)
    assert broken.value.line == TEXT[:place].count(b"\n") + 1


@given(st.integers(0, len(TEXT) - 1))
def test_a_file_that_was_cut_anywhere_is_found(end: int) -> None:
    with pytest.raises(BrokenLog) as broken:
        verify(_lines(TEXT[:end]), OPENED)
    assert broken.value.line == TEXT[:end].count(b"\n") + 1


@given(st.permutations(range(len(LINES))))
def test_a_changed_order_is_found_at_its_first_line(order: list[int]) -> None:
    moved = next((place for place, line in enumerate(order) if place != line), None)
    if moved is None:
        return
    with pytest.raises(BrokenLog) as broken:
        verify([LINES[line] for line in order], OPENED)
    assert broken.value.line == moved + 1


@given(st.integers(0, len(LINES) - 1), st.integers(0, len(LINES)))
def test_a_removed_or_repeated_line_is_found(which: int, where: int) -> None:
    with pytest.raises(BrokenLog) as broken:
        verify([*LINES[:which], *LINES[which + 1 :]], OPENED)
    assert broken.value.line == which + 1
    with pytest.raises(BrokenLog) as broken:
        verify([*LINES[:where], LINES[which], *LINES[where:]], OPENED)
    assert broken.value.line in (where + 1, where + 2)


def test_a_chain_made_anew_after_a_change_does_not_end_with_the_signed_checkpoint() -> None:
    events = _events(6)
    events[2].actor = "somebody"
    for before, event in pairwise(events[1:]):
        event.previous_hash = before.hash
        event.hash = line_hash(said_by(event), event.previous_hash)
    forged = [*(f"{line_of(event)}\n" for event in events), LINES[-1]]
    with pytest.raises(BrokenLog, match="line 7: the checkpoint is of another log"):
        verify(forged, OPENED)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (_log(_events(6), key=signing.new_key()), "line 7: the checkpoint does not hold: kid"),
        (_log(_events(6), kind=signing.TYPE), "line 7: the checkpoint does not hold: typ"),
        ([*LINES[:3], LINES[-1]], "line 4: the checkpoint ends with line 6, not 3"),
        ([*LINES, LINES[-1]], "line 8: something follows"),
        ([*LINES[:3], *_log(_events(6, "ws_2"))[3:]], "line 4: its previous_hash"),
        ([], "line 1: the checkpoint is missing"),
    ],
)
def test_a_log_put_together_from_others_is_found(lines: list[str], why: str) -> None:
    with pytest.raises(BrokenLog, match=why):
        verify(lines, OPENED)


def test_a_log_that_was_shortened_and_signed_again_is_not_the_one_exported_earlier() -> None:
    earlier = verify(LINES, OPENED)
    with pytest.raises(BrokenLog, match="ends before the one that was exported earlier"):
        verify(_log(_events(5)), OPENED, earlier=earlier)
    with pytest.raises(BrokenLog, match="line 6: it is not the line that was exported earlier"):
        verify(_log(_events(8)), OPENED, earlier=Head("ws_1", 6, "0" * 64))
    with pytest.raises(BrokenLog, match="the checkpoint is not of"):
        verify(LINES, OPENED, issuer="https://elsewhere.example")
