"""A moment that a caller names is in UTC and can be written down, or is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.schemas.common import TimeIn
from core.platform.clock import rfc3339

MOMENT: TypeAdapter[datetime] = TypeAdapter(TimeIn)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None)
@given(st.text() | st.from_regex(r"\A\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,12})?)?([Zz]|[+-]\d\d:?\d\d)?\Z"))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        found = MOMENT.validate_python(text)
    except ValidationError:
        return
    assert found.utcoffset() == timedelta()
    assert rfc3339(found)


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9999, 1, 1), timezones=OFFSETS))  # noqa: DTZ001
def test_a_moment_is_the_same_whatever_its_offset(moment: datetime) -> None:
    found = MOMENT.validate_python(moment.isoformat())
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+23:59"]
)
def test_a_moment_outside_the_calendar_of_utc_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        MOMENT.validate_python(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
def test_the_ends_of_the_calendar_are_moments(text: str) -> None:
    assert rfc3339(MOMENT.validate_python(text)) == text.replace("00Z", "00.000Z")
