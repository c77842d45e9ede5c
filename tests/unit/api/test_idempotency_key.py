"""How an Idempotency-Key may be written."""

import pytest

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
