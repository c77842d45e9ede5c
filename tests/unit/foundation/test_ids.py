"""Identifiers name what they are and sort by creation."""

import re

from core.platform.ids import new_id, uuid7


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
