"""A cursor is the place that it was made for, or is refused."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.platform.paging import BadCursor, Cursors, Position
from core.platform.secrets import Keyring

LIST = Cursors(Keyring(b"k" * 32), '["ws_1", "/v1/runs", []]')
PLACES = st.tuples(st.datetimes(timezones=st.just(UTC)), st.text(max_size=40))


@settings(deadline=None, max_examples=50)
@given(PLACES, st.text(max_size=40))
def test_a_place_comes_back_from_its_cursor(place: Position, scope: str) -> None:
    cursors = Cursors(LIST.keyring, scope)
    assert cursors.read(cursors.write(place)) == place


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        LIST.read(text)


@settings(deadline=None, max_examples=50)
@given(PLACES, st.integers(0), st.integers(1, 255))
def test_a_cursor_with_any_byte_changed_is_refused(place: Position, at: int, change: int) -> None:
    text = LIST.write(place)
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[at % len(raw)] ^= change
    with pytest.raises(BadCursor):
        LIST.read(base64.urlsafe_b64encode(raw).decode())


@settings(deadline=None, max_examples=50)
@given(PLACES, st.text(max_size=20))
def test_a_cursor_of_another_list_is_refused(place: Position, filters: str) -> None:
    cursor = Cursors(LIST.keyring, LIST.scope + "\0" + filters).write(place)
    with pytest.raises(BadCursor):
        LIST.read(cursor)


def test_a_cursor_is_not_confused_by_where_the_scope_ends() -> None:
    place = (datetime(2031, 3, 1, tzinfo=UTC), "run_1")
    written = Cursors(LIST.keyring, "a").write(place)
    with pytest.raises(BadCursor):
        Cursors(LIST.keyring, "a\0").read(written)
