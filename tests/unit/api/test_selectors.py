"""Whatever is sent as a deletion request is refused field by field, or reaches the service as it was sent."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.schemas.deletion_requests import DeletionRequestIn, IdentityIn
from core.deletions.commands import Identity
from core.deletions.errors import EmptySelection, TooManyIds
from core.deletions.selection import check_size

IDS = st.lists(st.text(min_size=1, max_size=20), max_size=5)
IDENTITIES = st.lists(
    st.builds(dict, type=st.text(min_size=1, max_size=9), value=st.text(min_size=1, max_size=9)), max_size=3
)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from([*DeletionRequestIn.model_fields, "surprise"])


@settings(deadline=None, max_examples=60)
@given(IDS, IDS, IDENTITIES)
def test_every_selector_arrives_as_it_was_sent(
    records: list[str], subjects: list[str], who: list[dict[str, str]]
) -> None:
    body = {"record_ids": records, "subject_ids": subjects, "identities": who}
    command = DeletionRequestIn.model_validate_json(json.dumps(body)).to_command()
    assert (command.record_ids, command.subject_ids) == (tuple(records), tuple(subjects))
    assert command.identities == tuple(Identity(one["type"], one["value"], hashed=False) for one in who)
    given_in_all = len(records) + len(subjects) + len(who)
    if given_in_all == 0:
        with pytest.raises(EmptySelection):
            check_size(command, 100)
    else:
        check_size(command, given_in_all)
        with pytest.raises(TooManyIds):
            check_size(command, given_in_all - 1)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(_FIELDS, _ANY, max_size=3) | _ANY)
def test_any_body_is_taken_or_refused_naming_its_fields(body: Any) -> None:
    places = _places_of_refusal(body)
    if places is None:
        DeletionRequestIn.model_validate(body).to_command()
    else:
        assert all(bool(place) is isinstance(body, dict) for place in places)


def _places_of_refusal(body: Any) -> list[tuple[int | str, ...]] | None:
    try:
        DeletionRequestIn.model_validate(body)
    except ValidationError as refused:
        return [error["loc"] for error in refused.errors()]
    return None


@settings(deadline=None)
@given(st.text(max_size=70) | st.text(st.sampled_from("0123456789abcdefABCDEF"), min_size=62, max_size=66))
def test_a_hash_has_64_hexadecimal_digits_and_nothing_else(value: str) -> None:
    is_hash = len(value) == 64 and set(value) <= set("0123456789abcdefABCDEF")
    try:
        IdentityIn.model_validate({"type": "email", "value": value, "format": "sha256"})
    except ValidationError:
        assert not is_hash
    else:
        assert is_hash


def test_a_refusal_never_repeats_an_identity() -> None:
    with pytest.raises(ValidationError) as refused:
        IdentityIn.model_validate({"type": "email", "value": "jane.doe@example.org", "format": "sha256"})
    told = [error["msg"] for error in refused.value.errors()]
    assert "jane" not in json.dumps(told)
    assert "jane" not in repr(IdentityIn(type="email", value="jane.doe@example.org", format="raw"))
