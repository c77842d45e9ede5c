"""Nobody named on the command line is left out of what is sent."""

import pytest

from cli.output import Failed
from cli.selecting import pairs, selection


def test_several_identities_of_one_type_are_all_sent() -> None:
    chosen = selection(
        dataset=None, record=None, records_file=None, subject=None, identity=["email=a@b.c", "email=d@e.f"]
    )
    assert [person["value"] for person in chosen["identities"]] == ["a@b.c", "d@e.f"]


def test_a_name_given_twice_is_refused_where_only_one_can_count() -> None:
    with pytest.raises(Failed, match="--column label: given more than once"):
        pairs(["label=a", "label=b"], "--column")
