"""Identifiers name what they are and sort by creation."""

import re
from datetime import UTC, datetime, timedelta

from core.platform.ids import first_id, new_id, uuid7


def test_an_id_has_prefix_and_26_characters_of_base32() -> None:
    assert re.fullmatch(r"del_[0-9a-hjkmnp-tv-z]{26}", new_id("del"))


def test_ids_are_distinct_and_later_ones_sort_later_by_millisecond() -> None:
    ids = [uuid7() for _ in range(2000)]
    assert len(set(ids)) == 2000
    stamps = [value.int >> 80 for value in ids]
    assert stamps == sorted(stamps)


def test_uuid7_carries_version_and_variant() -> None:
    value = uuid7()
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"


def test_the_first_id_of_a_moment_parts_earlier_from_later_ones() -> None:
    before, moment = datetime.now(UTC) - timedelta(milliseconds=2), datetime.now(UTC) + timedelta(seconds=5)
    made = new_id("del")
    assert first_id("del", before) < made < first_id("del", moment)
    assert len(first_id("del", before)) == len(made)
