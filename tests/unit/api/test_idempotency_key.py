"""How an Idempotency-Key may be written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.idempotency import read_key
from core.access.idempotency import BadIdempotencyKey


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ('  "abc"  ', "abc"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ("a b", "a b"),
    ],
)
def test_quoted_and_bare(header: str, key: str) -> None:
    assert read_key(header) == key


@pytest.mark.parametrize("header", ["", '""', '"', 'a"b', '"a', "a" * 256, "é", "a\x00b", "\x7f", '"a\\b"'])
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(BadIdempotencyKey):
        read_key(header)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_printable_key_comes_back_from_its_quoted_form(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert read_key(f'"{escaped}"') == key


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255)) | st.text(st.sampled_from('"\\a \r\n\0')))
def test_any_header_is_a_printable_key_or_refused(header: str) -> None:
    try:
        key = read_key(header)
    except BadIdempotencyKey:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()
